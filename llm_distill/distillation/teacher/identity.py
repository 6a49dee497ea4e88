"""Whose scores these are, and of what: a student is not compared with another teacher's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llm_distill.models.files import TOKENIZER_FILES
from llm_distill.models.sources import ModelSource

if TYPE_CHECKING:
    from llm_distill.distillation.alignment.encoding import EncodedRow

SMALL_FILES = (
    *TOKENIZER_FILES,
    "adapter_config.json",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "merges.txt",
    "special_tokens_map.json",
)
PIECES = 256
PIECE = 4096
"""Bytes. Of weights, this many pieces are read, evenly spread: training changes nearly all of them,
and the file of a large model would take minutes to read."""


def scored_by(source: ModelSource) -> str:
    """What `train_distill` compares: names for people, then a digest of model and prompt format.

    `Llama-3.1-8B 5c0a9e1b77d2`. A model of the Hub counts by its name and commit, a directory by
    its config, its tokenizer and pieces of its weights; where either lies does not matter.
    """
    digest = hashlib.sha256(source.prompt_format.encode())
    if source.today is not None:
        digest.update(source.today.isoformat().encode())
    if source.chat_template is not None:
        digest.update(source.chat_template.encode())
    if source.system_role != "refuse":
        digest.update(source.system_role.encode())
    if not source.is_local:
        digest.update(f"\0{source.path}\0{source.revision or 'main'}".encode())
    folders = [Path(source.path)] * source.is_local + [Path(a) for a in source.adapters]
    for part in (part for folder in folders for part in _content(folder)):
        digest.update(len(part).to_bytes(8, "little") + part)
    names = [Path(source.path).name, *(Path(adapter).name for adapter in source.adapters)]
    return f"{' + '.join(names)} {digest.hexdigest()[:12]}"


def scored_text(row: EncodedRow) -> str:
    """A digest of a row's tokens: of its prompt as the teacher reads it, and of what is scored."""
    return hashlib.sha256(row.ids.astype("<i4").tobytes()).hexdigest()[:12]


def _content(folder: Path) -> Iterator[bytes]:
    for name in sorted(SMALL_FILES):
        if (folder / name).is_file():
            yield name.encode()
            yield (folder / name).read_bytes()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        yield f"{path.name} {size}".encode()
        with path.open("rb") as file:
            for index in range(PIECES):
                file.seek(index * max(0, size - PIECE) // (PIECES - 1))
                yield file.read(PIECE)
