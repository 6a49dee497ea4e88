"""Conversations that a model continues: from a row to a request, and its answer as a turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.engines.base import Completion, SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_chat_job
from llm_distill.errors import DataError
from llm_distill.methods.dialogue import Anew, Dialogue, begun
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message, json_text, read_messages, read_tools, stored
from llm_distill.stage import Context


@dataclass
class Talk:
    """A conversation that is being written.

    row: what is passed on with it. tools: what may be called. problem: why it cannot be written.
    n_written: turns so far.
    """

    row: Row
    dialogue: Dialogue = field(default_factory=lambda: Dialogue([]))
    tools: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    n_written: int = 0

    @property
    def id(self) -> str:
        return str(self.row["id"])

    def job(
        self, sampling: SamplingSettings, seed: int, structure: StructuredOutput | None
    ) -> Job[Talk]:
        """Ask for the next turn."""
        if self.problem is not None:
            return Job(self.id, self, None, self.problem)
        said = list(self.dialogue.said)
        return make_chat_job(self.id, self, said, sampling, seed, structure, self.tools)

    def take(self, completion: Completion) -> Row:
        """Add the turn, unless it failed.

        Returns:
            The columns `messages` and `tool_calls` (JSON text; null where it calls nothing).
        """
        calls = [dict(call) for call in completion.tool_calls or ()]
        if completion.error is None:
            turn: Message = {"role": "assistant", "content": completion.text.strip()}
            if completion.reasoning is not None:
                turn["reasoning_content"] = completion.reasoning
            if calls:
                turn["tool_calls"] = calls
            self.dialogue.take(turn)
            self.n_written += 1
        said = self.dialogue.said
        if not self.dialogue.is_over and completion.error is None:
            # Where this is the last turn that is written, nobody waits for an answer.
            last = max(i for i, message in enumerate(said) if message["role"] == "assistant")
            said = said[: last + 1]
        return {
            "messages": [stored(message) for message in said],
            "tool_calls": json_text(calls) if calls else None,
        }


def talk_of(row: Row, messages: Any, given_tools: Any, anew: Anew) -> Talk:
    """A conversation with its tools, in any of their forms. row: what is passed on with it."""
    try:
        dialogue = begun(read_messages(messages, "the row"), anew)
        tools = read_tools(given_tools, "the row")
    except DataError as error:
        return Talk(row, problem=str(error).removeprefix("the row").lstrip(":, "))
    if not dialogue.said:
        return Talk(row, dialogue, tools, "there is nothing before the assistant's turn")
    return Talk(row, dialogue, tools)


def all_turns(
    talks: Iterable[Talk],
    max_turns: int,
    row_of: Callable[[Talk, Completion], Row],
    ask: Callable[[Sequence[Talk]], Iterator[tuple[Talk, Completion]]],
    context: Context,
) -> Iterator[Row]:
    """Conversations with every turn of the assistant written anew, a turn of all at a time.

    Args:
        row_of: Adds a turn to a conversation, and gives its row.
        ask: For the next turn of each.
        context: Gets the counts of conversations that end early.
    """
    n_cut = 0
    waiting = list(talks)
    written: dict[str, Row] = {talk.id: {} for talk in waiting}
    for _ in range(max_turns):
        going = []
        for talk, completion in ask(waiting):
            written[talk.id] = row_of(talk, completion)
            n_cut += talk.dialogue.is_cut
            if completion.error is None and not talk.dialogue.is_over:
                going.append(talk)
        waiting = going
    context.metrics.update(dialogues_at_max_turns=len(waiting), dialogues_cut_short=n_cut)
    if n_cut:
        context.warn(
            f"{n_cut} dialogues end early: the results that follow in the data are not of the "
            "tools that were called"
        )
    yield from written.values()
