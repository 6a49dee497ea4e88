"""Templates: find, check, render and digest them. No prompt text stands in Python.

`arte/exam.jinja` is looked up as given, then under `prompts/` in the working directory, then
under the bundled `prompts/`. Rendering is sandboxed and strict: an unknown variable is an error.
"""

from __future__ import annotations

import hashlib
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from llm_distill.errors import ConfigError, DataError, nearest, quoted
from llm_distill.paths import bundled_root, find_resource, started_elsewhere
from llm_distill.secrets import has_secret, without_secrets

ENDINGS = (".jinja", ".jinja2", ".j2", ".txt", ".md")
"""Of a template's name: its text is sent to models, so it is not to be any file, such as a key."""
LARGEST_FILE = 1_000_000
"""Bytes of a template."""
LONGEST_PROMPT = 10_000_000
"""Characters; no model reads as many."""
MOST_SECONDS = 5
"""To render one prompt."""


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
            with _time_limit():
                return _joined(_compiled(self.source).generate(**variables)).rstrip()
        # What a template may compute on a row's values: 1 / 0, text + 1, a missing key.
        except (
            *(TemplateError, TypeError, ValueError, ArithmeticError, LookupError),
            *(RecursionError, MemoryError, _TooMuchError),
        ) as error:
            given = ", ".join(sorted(variables))
            said = without_secrets(str(error))[:500]
            raise DataError(
                f"template {self.name}: {said}; it was given: {given[:1000]}"
            ) from error


class _TooMuchError(Exception):
    """A template computes more than any prompt needs."""


def _joined(pieces: Iterable[str]) -> str:
    found, size = [], 0
    for piece in pieces:
        size += len(piece)
        if size > LONGEST_PROMPT:
            raise _TooMuchError(f"it writes more than {LONGEST_PROMPT:,} characters")
        found.append(piece)
    return "".join(found)


@contextmanager
def _time_limit() -> Iterator[None]:
    """Ends loops that never end, where a signal can: in the main thread."""

    def stop(*_: object) -> None:
        raise _TooMuchError(f"it takes more than {MOST_SECONDS} s")

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    return _environment().from_string(source)


@cache
def _environment() -> Any:
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Environment(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**", "%"})

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            """The operations with which a few characters make a number or a text without end."""
            sizes = [len(x) if isinstance(x, Sized) else abs(x) for x in (left, right)]
            is_power = operator == "**" and max(sizes) > 10_000
            is_repeat = operator == "*" and any(isinstance(x, Sized) for x in (left, right))
            is_format = operator == "%" and isinstance(left, str) and _is_wide(left)
            if is_power or is_format or (is_repeat and sizes[0] * sizes[1] > LONGEST_PROMPT):
                asked = f"{quoted(left)} {operator} {quoted(right)}"
                raise _TooMuchError(f"{asked} is more than a prompt needs")
            return super().call_binop(context, operator, left, right)

        def call(self, context: Any, what: Any, /, *args: Any, **kwargs: Any) -> Any:
            """As `'x'.ljust(10**9)` makes a text without end."""
            if isinstance(getattr(what, "__self__", None), str):
                _check_width(*args)
            return super().call(context, what, *args, **kwargs)

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        optimized=False,  # it would compute constants as the template is read, out of the sandbox
    )
    for name in ("format", "center", "indent"):
        environment.filters[name] = _bounded(environment.filters[name])
    return environment


def _bounded(of_jinja: Callable[..., Any]) -> Callable[..., Any]:
    def bounded(value: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(value, str) and _is_wide(value):
            raise _TooMuchError(f"the format {quoted(value)} is more than a prompt needs")
        _check_width(*args, *kwargs.values())
        return of_jinja(value, *args, **kwargs)

    return bounded


def _is_wide(form: str) -> bool:
    """Whether a format such as `%1000000000d` gives a text without end; `%*d` is told its width."""
    return re.search(r"%[^a-zA-Z%]*(?:\d{4}|\*)", form) is not None


def _check_width(*values: Any) -> None:
    if any(isinstance(value, int) and abs(value) > LONGEST_PROMPT for value in values):
        raise _TooMuchError(f"a width above {LONGEST_PROMPT:,} is more than a prompt needs")


def load_template(name: str) -> Template:
    """Find and parse a template.

    Raises:
        ConfigError: it does not exist, or its syntax is wrong (with the line).
    """
    from jinja2 import TemplateSyntaxError, meta

    path, raw = _read(name)
    try:
        source = raw.decode("utf-8")
        if has_secret(source):
            raise ConfigError(
                f"template {path}: a part of it looks like a secret, and its text is sent to models"
            )
        parsed = _environment().parse(source)
        names = meta.find_undeclared_variables(parsed)
        _compiled(source)
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"template {path}:{line}: not UTF-8; save it as UTF-8") from error
    except TemplateSyntaxError as error:
        said = without_secrets(str(error.message))[:500]
        raise ConfigError(f"template {path}:{error.lineno}: {said}") from error
    except (RecursionError, MemoryError, SyntaxError) as error:  # Python's own, of the compiled one
        raise ConfigError(f"template {path}: nested too deeply") from error
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


def _read(name: str) -> tuple[Path, bytes]:
    path = find_resource(name)
    if path is None or not path.is_file():
        path = find_resource(f"prompts/{name}")
    if path is None or not path.is_file():
        if re.search(r"[{}\n]|\w \w", name):
            raise ConfigError(
                f"template {quoted(name)}: a template is a file, and this is its text; write the "
                "text into prompts/NAME.jinja, and here NAME.jinja"
            )
        bundled = bundled_root() / "prompts"
        known = {str(p.relative_to(bundled)) for p in bundled.rglob("*.jinja")}
        beside = _beside(name)
        looked_in = dict.fromkeys((Path.cwd(), Path.cwd() / "prompts", bundled))
        raise ConfigError(
            f"template '{name}' is not there; looked in {' and '.join(map(str, looked_in))}; "
            f"{started_elsewhere(name)}"
            f"{nearest(name, beside if get_close_matches(name, beside, n=1) else known | beside)}"
        )
    if path.suffix not in ENDINGS:
        raise ConfigError(
            f"template {path}: a template's text is sent to models, so its name ends in one of "
            f"{', '.join(ENDINGS)}; rename the file if it is one"
        )
    raw = path.read_bytes()
    if len(raw) > LARGEST_FILE:
        raise ConfigError(f"template {path}: {len(raw):,} bytes; at most {LARGEST_FILE:,}")
    return path, raw


def _beside(name: str) -> set[str]:
    """The templates in the folder in which one was looked for."""
    above = Path(name).parent
    try:
        folder = above.expanduser()
        there = [p.name for p in folder.iterdir()] if folder.is_dir() else []
    except (OSError, RuntimeError, ValueError):
        return set()
    return {str(above / each) for each in there if Path(each).suffix in ENDINGS[:3]}


def chat_template(name: str) -> str:
    """The text of a chat template, found as templates of prompts are.

    transformers renders it, sandboxed as well: it knows more than Jinja (`{% generation %}`), so
    what is wrong with it is said where it is used.

    Raises:
        ConfigError: it does not exist, or is not text.
    """
    path, raw = _read(name)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"chat template {path}: not UTF-8; save it as UTF-8") from error


def continuation(text: str) -> str:
    """`text` as it follows a plain-text prompt: one space, then the stripped text.

    Prompts end without white space, so training rows and worked examples begin with the space that
    the model is to write.
    """
    return " " + text.strip()


def as_messages(prompt: str) -> Sequence[dict[str, str]]:
    """One user turn, as chat templates take it."""
    return [{"role": "user", "content": prompt}]
