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
        self._left = {row: budget for row, budget in enumerate(budgets) if budget is not None}
        self._opened = [prompt.opened for prompt in prompts]
        self._since = [0] * len(prompts)  # the first token after the last tag
        self._closing: dict[int, list[int]] = {}
        ends = stops.candidates([(">",)]) if self._left else None
        self._may_end_a_tag = None if ends is None else ends[0]

    def hold(
        self, step: int, rows: torch.Tensor, drawn: torch.Tensor, written: Written
    ) -> torch.Tensor:
        """`drawn` [n] for `rows` [n], with the closing tag's next token where one is due."""
        due = {}
        for index, row in enumerate(rows.tolist()):
            if row not in self._left or written.lengths[row] > 0:
                continue
            if row not in self._closing and self._opened[row] and self._left[row] == 0:
                self._closing[row] = self._rest_of_tag(written.tokens[row], row, step)
                self.cut[row] = bool(drawn[index] != self._closing[row][0])
            if row in self._closing:
                due[index] = self._closing[row].pop(0)
        if not due:
            return drawn
        held = drawn.clone()
        held[list(due)] = torch.tensor(list(due.values()), device=drawn.device)
        return held

    def note(self, step: int, rows: torch.Tensor, written: Written) -> None:
        """Count the tokens that `rows` [n] have written at this step."""
        for row in rows.tolist():
            if row not in self._left:
                continue
            if row in self._closing:
                if not self._closing[row]:
                    del self._closing[row]
                    self._opened[row], self._since[row] = "", step + 1
                continue
            opened = self._opened[row]
            if self._ends_a_tag(int(written.tokens[row, step])):
                text = self._tail(written.tokens[row], row, step + 1)
                self._opened[row] = still_open(text, opened)
                if self._opened[row] != opened:
                    self._since[row] = step + 1
                    continue
            if opened and self._left[row] > 0:
                self._left[row] -= 1

    def _ends_a_tag(self, token: int) -> bool:
        # A model may have more ids than its tokenizer; those have no text.
        ends = self._may_end_a_tag
        return ends is not None and token < len(ends) and bool(ends[token])

    def _tail(self, tokens: torch.Tensor, row: int, end: int, more: Sequence[int] = ()) -> str:
        """The text, since the last tag, of the tokens before `end` that may be part of a tag."""
        start = max(self._since[row], end - LONGEST_TAG)
        text: str = self._tokenizer.decode(
            [*tokens[start:end].tolist(), *more], clean_up_tokenization_spaces=False
        )
        return text

    def _rest_of_tag(self, tokens: torch.Tensor, row: int, end: int) -> list[int]:
        """What is missing of the closing tag, of which the model may have written the beginning.

        Raises:
            ModelError: the tokenizer cannot write it.
        """
        opened = self._opened[row]
        tag, tail = f"</{opened[1:]}", self._tail(tokens, row, end)
        for length in range(len(tag) - 1, -1, -1):
            if tail.endswith(tag[:length]):
                rest = self._tokenizer(tag[length:], add_special_tokens=False)["input_ids"]
                if not still_open(self._tail(tokens, row, end, rest), opened):
                    return list(rest)
        raise ModelError(
            f"model '{self._name}': its tokenizer cannot write {tag}, so thinking_token_budget "
            "cannot close its thoughts; leave it out for this model"
        )
