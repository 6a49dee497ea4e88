"""Removes what is private to a machine from what is shown to others. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from llm_distill.secrets import SHORTEST_VALUE, without_secrets

# Of a URL only user and password, before the host, are private.
_URL_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
# At least one folder and what is in it: "/" alone may be a stop string.
_LOCAL_PATH = re.compile(r"(file://|~[\w.-]*/|/[^/\s][^/\n]*/|[A-Za-z]:[\\/])[^\n]+")


def scrubbed(value: Any, environment: Mapping[str, str]) -> Any:
    """JSON values without secrets, paths outside the project and values of environment variables.

    A text that is an absolute or home path keeps only its last part: others have to put the file
    there. The value of an environment variable is replaced by `${NAME}`, which a pipeline file
    expands again.
    """
    names = sorted(
        ((text, name) for name, text in environment.items() if len(text) >= SHORTEST_VALUE),
        key=lambda pair: (-len(pair[0]), pair[1]),  # the longest first: one may hold another
    )
    return _scrubbed(value, names)


def _scrubbed(value: Any, names: list[tuple[str, str]]) -> Any:
    if isinstance(value, Mapping):
        return {key: _scrubbed(inner, names) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(inner, names) for inner in value]
    if not isinstance(value, str):
        return value
    if _LOCAL_PATH.fullmatch(value):
        value = PurePath(value.replace("\\", "/")).name
    for text, name in names:
        if text in value and re.fullmatch(r"[A-Za-z_]\w*", name):
            value = value.replace(text, f"${{{name}}}")
    return without_secrets(_URL_LOGIN.sub("", value), {})
