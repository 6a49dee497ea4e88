"""A conversation as one text, for a prompt that is about it.

in:  [{"role": "user", "content": "Is it 5?"}, {"role": "assistant", "content": "How did you add?"}]
out: "Pupil: Is it 5?\\n\\nTutor: How did you add?", with {"user": "Pupil", "assistant": "Tutor"}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from llm_distill.rows.messages import read_messages


def as_text(value: Any, names: Mapping[str, str], place: str) -> str:
    """A text as it is; a conversation with each turn after the name of who speaks.

    Thoughts are left out: who reads a conversation does not see them. Calls are JSON.

    Args:
        value: A text or the turns of a conversation; None is no text.
        names: What a role is called; others are called as they are.
        place: What to name in a message.

    Raises:
        DataError: as `read_messages` does, where it is a list.
    """
    if not isinstance(value, list):
        return "" if value is None else str(value)
    turns = []
    for turn in read_messages(value, place):
        calls = [
            json.dumps(call["function"], ensure_ascii=False) for call in turn.get("tool_calls", ())
        ]
        said = "\n".join(part for part in (turn["content"].strip(), *calls) if part)
        turns.append(f"{names.get(turn['role'], turn['role'])}: {said}")
    return "\n\n".join(turns)
