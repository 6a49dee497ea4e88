"""Templates: find, check, render and digest them. No prompt text stands in Python.

`arte/exam.jinja` is looked up as given, then under `prompts/` in the working directory, then
under the bundled `prompts/`. Rendering is sandboxed and strict: an unknown variable is an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llm_distill.errors import ConfigError, DataError
from llm_distill.paths import bundled_root, find_resource


@dataclass(frozen=True)
class Template:
    """A prompt template.

    `digest` is the sha256 of the file's bytes; `variables` are the names that it reads.
    """

    name: str
    path: Path
    digest: str
    variables: frozenset[str]
    source: str

    def render(self, variables: Mapping[str, Any]) -> str:
        """The prompt, without white space at its end.

        A prompt that ends in a space makes the model continue with a token that it never saw
        after one in training, so the end is always trimmed.

        Raises:
            DataError: a variable is missing or the template fails on these values.
        """
        from jinja2 import TemplateError

        try:
            return str(_compiled(self.source).render(**variables)).rstrip()
        # What a template may compute on a row's values: 1 / 0, text + 1, a missing key.
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise DataError(
                f"template {self.name}: {error}; it was given: {', '.join(sorted(variables))}"
            ) from error


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    return environment.from_string(source)


def load_template(name: str) -> Template:
    """Find and parse a template.

    Raises:
        ConfigError: it is nowhere, or its syntax is wrong (with the line).
    """
    from jinja2 import Environment, TemplateSyntaxError, meta

    path = find_resource(name)
    if path is None or not path.is_file():
        path = find_resource(f"prompts/{name}")
    if path is None or not path.is_file():
        raise ConfigError(
            f"template '{name}' is not there; looked in {Path.cwd()}, {Path.cwd() / 'prompts'} "
            f"and {bundled_root() / 'prompts'}; {_listed(name)}"
        )
    raw = path.read_bytes()
    try:
        source = raw.decode("utf-8")
        parsed = Environment().parse(source)
        names = meta.find_undeclared_variables(parsed)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"template {path}:{line}: not UTF-8; save it as UTF-8") from error
    except TemplateSyntaxError as error:
        raise ConfigError(f"template {path}:{error.lineno}: {error.message}") from error
    if any(True for _ in meta.find_referenced_templates(parsed)):
        raise ConfigError(
            f"template {path}: include, import and extends are not allowed: a template is one "
            "file, so that its digest says when it changed"
        )
    return Template(
        name=name,
        path=path,
        digest=hashlib.sha256(raw).hexdigest(),
        variables=frozenset(names),
        source=source,
    )


def _listed(name: str) -> str:
    from llm_distill.errors import nearest

    root = bundled_root() / "prompts"
    return nearest(name, (str(p.relative_to(root)) for p in root.rglob("*.jinja")))


def continuation(text: str) -> str:
    """`text` as it follows a plain-text prompt: one space, then the text without outer space.

    Prompts end without white space, so training rows and worked examples must begin with the
    same space that the model is to produce.
    """
    return " " + text.strip()


def as_messages(prompt: str, system: str | None = None) -> Sequence[dict[str, str]]:
    """One user turn (after an optional system turn), as chat templates take it."""
    head = [{"role": "system", "content": system}] if system else []
    return [*head, {"role": "user", "content": prompt}]
