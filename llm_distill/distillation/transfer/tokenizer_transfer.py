"""A model with another tokenizer: its layers, new rows for tokens, and its own special tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_distill.distillation.alignment.encoding import bytes_of_tokens
from llm_distill.distillation.alignment.segments import is_byte_token, segments
from llm_distill.distillation.transfer.new_tokenizer import (
    byte_tokenizer,
    kept_tokens,
    tokenizer_with,
)
from llm_distill.errors import ModelError
from llm_distill.methods.token_bytes import TokenBytes
from llm_distill.models.sources import ModelSource, own_tokenizer
from llm_distill.training.weights import Start, load_start, save_full

if TYPE_CHECKING:
    from llm_distill.methods.embedding_transfer import Pieces

NAMES_TOKENS = re.compile(r"\w+_token_id|(begin_)?suppress_tokens")
"""Settings of a config that hold ids of tokens."""
INSIDE_CHARACTERS = slice(0x80, 0xC0)
"""Bytes that continue a character of UTF-8."""


def transfer_tokenizer(
    source: ModelSource,
    target: ModelSource | None,
    directory: Path,
    warn: Callable[[str], None],
) -> dict[str, int]:
    """Write the model directory. Adapters of the source are merged into it, in float32.

    target: whose tokenizer it gets (its weights are not read); None for one of bytes.

    Returns:
        The number of tokens, and of how many what was made: see `_counts`.

    Raises:
        ModelError: one of the tokenizers cannot be used; says why.
    """
    old: Any = _fast_tokenizer(source)
    cutter = byte_tokenizer() if target is None else _fast_tokenizer(target).backend_tokenizer
    new: Any = tokenizer_with(cutter, old, target.name if target else "bytes")
    tokens = _Tokens(old, bytes_of_tokens(source, old), new, bytes_of_tokens(target or source, new))
    start = load_start(replace(source, dtype="float32") if source.adapters else source)
    n_rows = start.model.get_input_embeddings().weight.shape[0]
    n_known = min(len(tokens.old_table.lengths), n_rows)
    pieces = tokens.pieces(n_known)
    if target is None:
        _check_bytes(pieces, source)
    _set_rows(start.model, pieces, n_known)
    _set_config(start, tokens, warn)
    directory.mkdir(parents=True, exist_ok=True)
    save_full(start, source, directory, new)
    _check_saved(directory, new, source)
    return _counts(pieces, tokens)


class _Tokens:
    """The tokens of both tokenizers, by what they write.

    kept: the new id of each old token that stays as it is.
    """

    def __init__(self, old: Any, old_table: TokenBytes, new: Any, new_table: TokenBytes) -> None:
        from llm_distill.methods.embedding_transfer import tokens_by_bytes

        self.old, self.old_table, self.new, self.new_table = old, old_table, new, new_table
        added = new.get_added_vocab()
        self.kept: dict[int, int] = {
            token["id"]: added[token["content"]] for token in kept_tokens(old)
        }
        self.old_ids = tokens_by_bytes(old_table, is_byte_token(old, old_table))
        self.new_ids = tokens_by_bytes(new_table, is_byte_token(new, new_table))

    def pieces(self, n_known: int) -> Pieces:
        """What each new token is made of, among the first `n_known` of the old ones."""
        from llm_distill.methods.embedding_transfer import pieces_of

        joined, starts = self.new_table.data.tobytes(), self.new_table.starts.tolist()
        wanted: list[bytes | int | None] = [
            None if is_special else joined[start:end]
            for start, end, is_special in zip(
                starts, starts[1:], self.new_table.is_special.tolist(), strict=False
            )
        ]
        for old, new in self.kept.items():
            wanted[new] = old if old < n_known else None
        known = {content: token for content, token in self.old_ids.items() if token < n_known}
        return pieces_of(wanted, known, self._segment)

    def new_id(self, old: int) -> int | None:
        """The new token for an old one; None where it writes what no new one does."""
        if old in self.kept:
            return self.kept[old]
        if not 0 <= old < len(self.old_table.is_special):
            return None
        return self.new_ids.get(self.old_table.text([old]))

    def _segment(self, texts: Sequence[str]) -> list[list[int] | None]:
        """The old tokens of each text; None where the old tokenizer cannot write just that."""
        return segments(self.old, self.old_table, texts)


def _fast_tokenizer(source: ModelSource) -> Any:
    tokenizer: Any = own_tokenizer(source)
    if not tokenizer.is_fast:
        raise ModelError(
            f"model '{source.name}' ({source.path}) has only a slow tokenizer "
            f"({type(tokenizer).__name__}); take a model that has a tokenizer.json"
        )
    return tokenizer


def _check_bytes(pieces: Pieces, source: ModelSource) -> None:
    """Refuse a source whose tokenizer does not work on bytes.

    A few rare bytes may be missing: byte-level vocabularies that were trained without a full
    alphabet lack those that the training texts never had.

    Raises:
        ModelError: none of the bytes that continue a character has a token.
    """
    if not pieces.lengths[INSIDE_CHARACTERS].any():
        raise ModelError(
            f"model '{source.name}' ({source.path}) has no tokens for the bytes of characters "
            "beyond ASCII, so it cannot be moved to bytes; its tokenizer is neither byte-level nor "
            "has byte fallback"
        )


def _set_rows(model: Any, pieces: Pieces, n_known: int) -> None:
    """Input embedding, and output layer with its bias where it has its own, each by its rows."""
    from llm_distill.methods.embedding_transfer import new_rows

    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head.weight is embedding.weight
    rows = {"embedding": new_rows(embedding.weight, pieces, n_known)}
    if not is_tied:
        rows["head"] = new_rows(head.weight, pieces, n_known)
    if getattr(head, "bias", None) is not None:
        rows["bias"] = new_rows(head.bias, pieces, n_known)
    model.resize_token_embeddings(len(rows["embedding"]), mean_resizing=False)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    embedding.weight.data.copy_(rows["embedding"])
    if not is_tied:
        head.weight.data.copy_(rows["head"])
    if "bias" in rows:
        head.bias.data.copy_(rows["bias"])


def _set_config(start: Start, tokens: _Tokens, warn: Callable[[str], None]) -> None:
    """The new number of tokens, and the new ids of every token that the configs name."""
    text_config = start.config.get_text_config(decoder=True)
    text_config.vocab_size = len(tokens.new_table.lengths)
    configs = {id(each): each for each in (start.config, text_config, start.generation_config)}
    lost: set[int] = set()
    for config in configs.values():
        for name, value in config.to_dict().items():
            if not NAMES_TOKENS.fullmatch(name) or value is None:
                continue
            listed = value if isinstance(value, list) else [value]
            moved = [new for old in listed if (new := tokens.new_id(old)) is not None]
            setattr(config, name, moved if isinstance(value, list) else next(iter(moved), None))
            if name == "eos_token_id":
                lost.update(old for old in listed if tokens.new_id(old) is None)
    known = [old for old in sorted(lost) if 0 <= old < len(tokens.old_table.lengths)]
    if known:
        texts = ", ".join(map(repr, tokens.old.convert_ids_to_tokens(known)))
        warn(f"the model also ends at {texts}, which the new tokenizer lacks: this is left out")


def _check_saved(directory: Path, made: Any, source: ModelSource) -> None:
    """Raises ModelError: transformers loads another tokenizer than was saved.

    Of some kinds of models it makes every tokenizer a class of its own choice, with that class's
    way of cutting text.
    """
    loaded: Any = own_tokenizer(ModelSource(source.name, str(directory)))
    given, wanted = (json.loads(each.backend_tokenizer.to_str()) for each in (loaded, made))
    different = [part for part in wanted if given[part] != wanted[part]]
    if different:
        model_type = json.loads((directory / "config.json").read_text())["model_type"]
        raise ModelError(
            f"model '{source.name}' cannot be given another tokenizer: transformers loads that of "
            f"every model of type '{model_type}' as {type(loaded).__name__}, with "
            f"{', '.join(different)} of its own; take a model of another type"
        )


def _counts(pieces: Pieces, tokens: _Tokens) -> dict[str, int]:
    """n_special kept ones; of the others n_copied, n_mean, and n_fallback (the mean of all)."""
    lengths = pieces.lengths.copy()
    kept = np.array(list(tokens.kept.values()), np.int64)
    kept = kept[lengths[kept] == 1]  # all that the model had rows for
    lengths[kept] = -1
    return {
        "n_tokens": len(lengths),
        "n_special": len(kept),
        "n_copied": int((lengths == 1).sum()),
        "n_mean": int((lengths > 1).sum()),
        "n_fallback": int((lengths == 0).sum()),
    }
