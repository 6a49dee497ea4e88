"""A row that cannot be used, as data: it is left out and counted, and the run goes on."""

from __future__ import annotations

from collections.abc import Iterable

OF_THE_TEMPLATE = "refused by the chat template"
EMPTY = "empty completion"
REMEDIES = {
    OF_THE_TEMPLATE: "a template without a system role takes system messages with system_role: "
    "fold; give the model another one with chat_template, or prompt_format: text (under models:)",
    EMPTY: "if a model wrote them, it ends at once: train it on a teacher's texts first "
    "(train_sft), or give it another prompt",
}
"""What to do about a reason, by its first words."""


class UnusableRowError(Exception):
    """A row that cannot be trained on. The message is the reason that it is counted under."""


class AlteredRowError(UnusableRowError):
    """What would be trained is not what the row says: a template or a tokenizer changes it."""


def remedies(reasons: Iterable[str]) -> str:
    """What to do about the reasons for which no row is left, to be put behind them.

    >>> remedies(["longer than max_length"])
    ''
    """
    named = list(reasons)
    found = [todo for words, todo in REMEDIES.items() if any(r.startswith(words) for r in named)]
    return "".join(f"; {todo}" for todo in found)
