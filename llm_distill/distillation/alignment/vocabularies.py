"""Whether two tokenizers have the same tokens under the same ids."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any


def vocabulary_digest(tokenizer: Any) -> str:
    """The same for tokenizers that have the same tokens under the same ids, and no others."""
    tokens = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    return sha256(tokens.encode()).hexdigest()[:12]


def difference(teacher: Any, student: Any) -> str | None:
    """How the vocabularies of two tokenizers differ, in words; None where they do not."""
    ours, theirs = student.get_vocab(), teacher.get_vocab()
    if ours == theirs:
        return None
    if len(ours) != len(theirs):
        return f"the teacher's has {len(theirs):,} tokens, the student's {len(ours):,}"
    by_id = {index: token for token, index in theirs.items()}
    for token, index in sorted(ours.items(), key=lambda item: item[1]):
        if by_id.get(index) != token:
            return (
                f"token {index} is {by_id.get(index)!r} for the teacher, {token!r} for the student"
            )
    return "they have other ids"


def refusal(loss: str, teacher: str, student: str, how: str) -> str:
    """What is said where a loss compares tokens that are not the same. how: of `difference`."""
    return (
        f"losses.{loss} compares distributions over tokens, and the tokenizers of '{teacher}' and "
        f"'{student}' differ: {how}; across tokenizers use alm"
    )
