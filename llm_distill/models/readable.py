"""Whether a model's config and tokenizer can be read, told from its files within milliseconds.

The libraries that load a model take seconds to be imported; what they would say is said here of the
cases that are met: a damaged or incomplete copy, a kind that is newer than the library, no chat
template. Whatever cannot be told so is left to them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llm_distill.errors import first_line

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")


def why_not_readable(folder: Path, needs_template: bool) -> Iterator[str]:
    """What is wrong with the files of a model that are on this machine.

    needs_template: whether it is spoken to through its own chat template.
    """
    try:
        config = _json(folder / "config.json")
        if config is not None:
            yield from _kind(folder, config)
        yield from _tokenizer(folder, needs_template)
    except ValueError as error:
        yield str(error)


def _json(file: Path) -> dict[str, Any] | None:
    """What it holds; None where it is not there.

    Raises:
        ValueError: it is damaged.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is damaged: {first_line(error)}; copy the model again") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is damaged: it does not hold a JSON object; copy the model again")
    return found


def _kind(folder: Path, config: dict[str, Any]) -> Iterator[str]:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        yield f"{folder / 'config.json'} has no model_type; is it a model as transformers saves it?"
        return
    known = _known_kinds()
    if known and f'"{kind}"' not in known:
        yield (
            f"it is of the kind '{kind}', which the installed transformers does not know; "
            "pip install --upgrade transformers, or take another model"
        )


@cache
def _known_kinds() -> str:
    """Where transformers names the kinds of models, as text: to import it takes seconds."""
    found = find_spec("transformers")
    if found is None or found.origin is None:
        return ""
    folder = Path(found.origin).parent / "models" / "auto"
    try:
        return "".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py")))
    except OSError:
        return ""


def _tokenizer(folder: Path, needs_template: bool) -> Iterator[str]:
    from tokenizers import Tokenizer

    settings = _json(folder / "tokenizer_config.json") or {}
    file = folder / "tokenizer.json"
    if not file.is_file():
        return  # of an older kind, or elsewhere: whoever loads it says
    try:
        Tokenizer.from_file(str(file))
    except Exception as error:  # the library has no class of its own
        yield f"{file} cannot be read: {first_line(error)}; copy the model again"
    has_template = settings.get("chat_template") or any((folder / n).exists() for n in TEMPLATES)
    if needs_template and not has_template:
        yield "it has no chat template; set prompt_format: text, or a chat_template"
