"""Shows a judge what it is to judge, and reads what it replies."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from llm_distill.engines.base import Completion, SamplingSettings, StructuredOutput
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError, quoted
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.sources import PromptFormat
from llm_distill.prompts import Template

Verdict = TypeVar("Verdict")
Ask = Callable[[Iterable[Job[None]], int], Iterator[tuple[Job[None], Completion]]]

GIVES_UP_AFTER = 20
"""Replies of which none can be read: a judge that ignores the form is not paid for more."""
SHOWN = 3


@dataclass(frozen=True)
class Shown:
    """What the judge is shown, as values of the template.

    Attributes:
        id: Its own.
        item: Of the item; the stage's constants stand in for its columns.
        answers: What is judged, which nothing stands in for.
    """

    id: str
    item: Mapping[str, Any]
    answers: Mapping[str, Any]


@dataclass(frozen=True)
class Reply(Generic[Verdict]):
    """A judge's reply.

    verdict: None where none can be read. text: None where it gave none, and why is in `error`.
    """

    verdict: Verdict | None
    text: str | None
    error: str | None = None


@dataclass
class Judge:
    """A model that is asked for verdicts: of an exam's judge, a stage's, or an annotator.

    Attributes:
        name: The model's in the pipeline, or the judge's own.
        wanted: What a reply has to have, in words.
        seed: The pipeline's.
        ask: Gives the completions of jobs in their order, told how many they are.
        variables: Constants for the template.
        structure: The form that its replies are held to; None where it is asked in words.
        role: What it is, in messages.
        sampling_at: Where its `sampling` is set, in messages.
        asked, unreadable, failed: How many replies there were, and of them without a verdict;
            and requests without a reply.
    """

    name: str
    wanted: str
    template: Template
    sampling: SamplingSettings
    prompt_format: PromptFormat
    seed: int
    ask: Ask
    variables: Mapping[str, Any]
    structure: StructuredOutput | None = None
    role: str = "judge"
    sampling_at: str = "judge.sampling"
    asked: int = 0
    unreadable: int = 0
    failed: int = 0
    _first: list[str] = field(default_factory=list)

    def replies(
        self, shown: Sequence[Shown], read: Callable[[Completion], Verdict | None]
    ) -> Iterator[Reply[Verdict]]:
        """A reply to each, in order.

        Raises:
            DataError: Of the first replies none, or of all less than half, can be read.
        """
        for _, completion in self.ask(map(self._job, shown), len(shown)):
            if completion.error is not None:
                self.failed += 1
                yield Reply(None, None, completion.error)
                continue
            verdict = read(completion)
            self._count(completion, verdict is not None)
            yield Reply(verdict, completion.text)
        if 2 * self.unreadable > self.asked:
            raise self._ignores_the_form()

    def counts(self) -> dict[str, int]:
        """What it was asked, in words."""
        return {
            "replies": self.asked,
            "unreadable replies": self.unreadable,
            "failed requests": self.failed,
        }

    def _job(self, shown: Shown) -> Job[None]:
        values = {**shown.item, **self.variables, **shown.answers}
        seed = derive_seed(self.seed, self.name, shown.id)
        asked = self.template, values, self.prompt_format, self.sampling, seed, self.structure
        return make_job(shown.id, None, *asked)[0]

    def _count(self, completion: Completion, is_readable: bool) -> None:
        self.asked += 1
        self.unreadable += not is_readable
        if not is_readable and len(self._first) < SHOWN:
            cut = ", cut by max_tokens" if completion.finish_reason == "length" else ""
            self._first.append(f"{quoted(completion.text, 200)}{cut}")
        if self.unreadable == self.asked == GIVES_UP_AFTER:
            raise self._ignores_the_form()

    def _ignores_the_form(self) -> DataError:
        listed = "\n".join(f"  {text}" for text in self._first)
        return DataError(
            f"{self.unreadable} of {self.asked} replies of the {self.role} '{self.name}' have no "
            f"{self.wanted}, so its verdicts would mean nothing. The first of them are\n{listed}\n"
            f"Ask for the form in {self.template.name}, give replies that are cut more room with "
            f"{self.sampling_at}: {{temperature: 0, max_tokens: …}}, or take another {self.role}"
        )
