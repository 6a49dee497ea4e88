"""Thoughts that have used up their budget are closed: the tag is written in the model's place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from llm_distill.errors import ModelError
from llm_distill.rows.thoughts import TAGS, still_open

if TYPE_CHECKING:
    from llm_distill.engines.codec import Prompt
    from llm_distill.engines.transformers.record import Written
    from llm_distill.engines.transformers.stopping import StopStrings

LONGEST_TAG = max(len(f"</{tag}>") for tag in TAGS)
"""In characters, so in tokens at most."""


class ThoughtBudgets:
    """Counts the tokens inside a batch's thoughts, and writes the closing tag where they must end.

    What a row writes between its tags counts, of all of its thoughts together; the tags, and what
    the prompt has of them, do not. Rows without a budget are left alone.

    Attributes:
        cut: whether a row's thought was closed before the model would have; None without a budget.
    """

    def __init__(
        self, name: str, tokenizer: Any, stops: StopStrings, prompts: Sequence[Prompt]
    ) -> None:
        """name: the model's."""
        self._name, self._tokenizer = name, tokenizer
        budgets = [prompt.request.sampling.thinking_token_budget for prompt in prompts]
        self.cut = [None if budget is None else False for budget in budgets]
        self._budgets = {row: budget for row, budget in enumerate(budgets) if budget is not None}
        self._opened = [prompt.opened for prompt in prompts]
        self._since = [0] * len(prompts)  # the first token after the last tag
        self._spent = [0] * len(prompts)  # in thoughts that are closed
        self._closing: dict[int, list[int]] = {}
        ends = stops.candidates([(">",)]) if self._budgets else None
        self._may_end_a_tag = None if ends is None else ends[0]

    def hold(
        self, step: int, rows: torch.Tensor, drawn: torch.Tensor, written: Written
    ) -> torch.Tensor:
        """`drawn` [n] for `rows` [n], with the closing tag's next token where one is due."""
        due = {}
        for index, row in enumerate(rows.tolist()):
            if row not in self._budgets or written.lengths[row] > 0:
                continue
            if row not in self._closing and self._is_used_up(row, step):
                self._closing[row] = self._rest_of_tag(written.tokens[row], row, step)
                self._spend(row, step + len(self._closing[row]))
            if row in self._closing:
                due[index] = self._closing[row].pop(0)
                self.cut[row] = self.cut[row] or int(drawn[index]) != due[index]
        if not due:
            return drawn
        held = drawn.clone()
        held[list(due)] = torch.tensor(list(due.values()), device=drawn.device)
        return held

    def note(self, step: int, rows: torch.Tensor, written: Written) -> None:
        """See which thoughts `rows` [n] have opened or closed with the tokens of this step."""
        for row in rows.tolist():
            if row not in self._budgets:
                continue
            if row in self._closing:
                if not self._closing[row]:
                    del self._closing[row]
                    self._opened[row], self._since[row] = "", step + 1
                continue
            if not self._ends_a_tag(int(written.tokens[row, step])):
                continue
            now = still_open(self._tail(written.tokens[row], row, step + 1), self._opened[row])
            if now != self._opened[row]:
                if not now:
                    self._spend(row, step + 1)
                self._opened[row], self._since[row] = now, step + 1

    def _is_used_up(self, row: int, step: int) -> bool:
        used = self._spent[row] + step - self._since[row]
        return bool(self._opened[row]) and used >= self._budgets[row]

    def _spend(self, row: int, end: int) -> None:
        """Count the thought that is closed, tag and all, before the token `end`."""
        n_tag = len(self._ids(_closing(self._opened[row])))
        self._spent[row] += max(0, end - self._since[row] - n_tag)

    def _ends_a_tag(self, token: int) -> bool:
        # A model may have more ids than its tokenizer; those have no text.
        ends = self._may_end_a_tag
        return ends is not None and token < len(ends) and bool(ends[token])

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _tail(self, tokens: torch.Tensor, row: int, end: int, more: Sequence[int] = ()) -> str:
        """The text, since the last tag, of the tokens before `end` that may be part of a tag."""
        start = max(self._since[row], end - LONGEST_TAG)
        text: str = self._tokenizer.decode(
            [*tokens[start:end].tolist(), *more], clean_up_tokenization_spaces=False
        )
        return text

    def _rest_of_tag(self, tokens: torch.Tensor, row: int, end: int) -> list[int]:
        """The closing tag; of one that takes several tokens, what the model has not begun with.

        Raises:
            ModelError: the tokenizer cannot write it.
        """
        opened = self._opened[row]
        tag, tail = _closing(opened), self._tail(tokens, row, end)
        is_one = len(self._ids(tag)) == 1
        for begun in range(0 if is_one else len(tag) - 1, -1, -1):
            if tail.endswith(tag[:begun]):
                rest = self._ids(tag[begun:])
                if not still_open(self._tail(tokens, row, end, rest), opened):
                    return rest
        raise ModelError(
            f"model '{self._name}': its tokenizer cannot write {tag}, so thinking_token_budget "
            "cannot close its thoughts; leave it out for this model"
        )


def _closing(opened: str) -> str:
    return f"</{opened[1:]}"
