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

from llm_distill.errors import ConfigError, DataError, nearest
from llm_distill.paths import bundled_root, find_resource


@dataclass(frozen=True)
class Template:
    """A prompt template.

    Attributes:
        digest: sha256 of the file's bytes, in hex.
        variables: the names that it reads.
    """

    name: str
    digest: str
    variables: frozenset[str]
    source: str

    def render(self, variables: Mapping[str, Any]) -> str:
        """The prompt, without white space at its end.

        After a trailing space a model would have to continue with a token that never followed one
        in training.

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
        ConfigError: it does not exist, or its syntax is wrong (with the line).
    """
    from jinja2 import Environment, TemplateSyntaxError, meta

    path = find_resource(name)
    if path is None or not path.is_file():
        path = find_resource(f"prompts/{name}")
    if path is None or not path.is_file():
        bundled = bundled_root() / "prompts"
        known = (str(p.relative_to(bundled)) for p in bundled.rglob("*.jinja"))
        raise ConfigError(
            f"template '{name}' is not there; looked in {Path.cwd()}, {Path.cwd() / 'prompts'} "
            f"and {bundled}; {nearest(name, known)}"
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
        digest=hashlib.sha256(raw).hexdigest(),
        variables=frozenset(names),
        source=source,
    )


def continuation(text: str) -> str:
    """`text` as it follows a plain-text prompt: one space, then the stripped text.

    Prompts end without white space, so training rows and worked examples begin with the space that
    the model is to write.
    """
    return " " + text.strip()


def as_messages(prompt: str) -> Sequence[dict[str, str]]:
    """One user turn, as chat templates take it."""
    return [{"role": "user", "content": prompt}]
