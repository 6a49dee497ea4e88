"""One model of a run that is asked: its engine, and how its prompt is formed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from llm_distill.engines.asking import complete
from llm_distill.engines.base import Completion, Engine, Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.requests import Job, answered
from llm_distill.errors import ConfigError, DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.models.sources import ModelSource
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message
from llm_distill.runtime.finished import FinishedRun
from llm_distill.runtime.prompt_form import ASKED, PromptForm


@dataclass
class Answerer:
    """A model that answers.

    raw: the text is the prompt. system: a message of the user's, instead of the run's.
    """

    run: FinishedRun
    name: str
    form: PromptForm
    raw: bool = False
    system: str | None = None
    sampling: SamplingSettings = SamplingSettings(temperature=0)  # noqa: RUF009 (it is frozen)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.system is None:
            return
        if self.source.prompt_format == "text":
            raise ConfigError(
                f"--system: '{self.name}' has prompt_format: text, which has no roles"
            )
        self.form = replace(self.form, system=self.system)

    def drawing(self, temperature: float, max_tokens: int | None, seed: int) -> Answerer:
        """The same with the user's way to draw; stops and length are the run's unless given."""
        usual = self.form.sampling
        most = max_tokens or usual.max_tokens
        changed: dict[str, Any] = {"temperature": temperature, "max_tokens": most}
        budget = usual.thinking_token_budget
        if budget is not None and budget >= most:
            changed["thinking_token_budget"] = None
        sampling = SamplingSettings.model_validate({**usual.model_dump(), **changed})
        return replace(self, sampling=sampling, seed=seed)

    @cached_property
    def source(self) -> ModelSource:
        return self.run.model(self.name)

    @property
    def remembers(self) -> bool:
        """Whether a chat with it has a history."""
        return not self.raw and self.source.prompt_format == "chat"

    def row(self, question: str) -> Row:
        """A typed question as a row; see `PromptForm.row`."""
        return {"question": question} if self.raw else self.form.row(question)

    def answer(
        self,
        row: Row,
        history: list[Message],
        on_text: Callable[[str], None] | None = None,
    ) -> Completion:
        """The answer to one question; a history gets both where the model remembers.

        on_text: given the text as it is written, where the engine can.
        """
        number = f"ask-{len(history)}"
        request = self._request(number, row, history)
        stream = getattr(self._engine, "stream", None)
        if on_text is not None and stream is not None:
            answer: Completion = stream(request, _without_margin(on_text))
        else:
            [(_, answer)] = complete([request], lambda: self._engine, None, _nothing)
            if on_text is not None and answer.error is None:
                on_text(answer.text.strip())
        if self.remembers and answer.error is None and not isinstance(request.prompt, str):
            history[:] = [*request.prompt, _turn(answer)]
        return answer

    def answers(self, rows: Sequence[Row]) -> Iterator[Row]:
        """Every row with its answer, in order; one that cannot be asked has its `error`."""
        jobs = (self._job(number, row) for number, row in enumerate(rows, 1))
        ask = lambda requests: complete(requests, lambda: self._engine, None, _nothing)  # noqa: E731
        for job, answer in answered(jobs, ask):
            prompt = job.request.prompt if job.request is not None else None
            text = answer.text if answer.error is None else None
            yield {
                **job.about,
                "model": self.name,
                "prompt": prompt,
                "completion": text if text is None or self.raw else text.strip(),
                **({"reasoning": answer.reasoning} if answer.reasoning else {}),
                **({"tool_calls": answer.tool_calls} if answer.tool_calls else {}),
                "n_completion_tokens": answer.n_completion_tokens,
                "finish_reason": answer.finish_reason,
                "error": answer.error,
            }

    def why_not(self, row: Row) -> str | None:
        """Why a row cannot be asked; None where it can."""
        try:
            self._request("try", {"id": "try", **row}, [])
        except DataError as error:
            return str(error)
        return None

    def close(self) -> None:
        """Free the model's memory."""
        if "_engine" in self.__dict__:
            self._engine.close()
            del self._engine

    @cached_property
    def _engine(self) -> Engine:
        """As the pipeline has it; of a model on a cluster's machines, what runs there, here."""
        settings = self.run.model_config(self.name).engine.answering()
        return settings.open(self.source, Budget(None))

    def _job(self, number: int, row: Row) -> Job[Row]:
        """The place in the file tells rows with the same id apart for the engine."""
        about = {"id": f"q{number}", **row}
        try:
            request = self._request(str(about["id"]), about, [])
        except DataError as error:
            return Job(str(number), about, None, str(error))
        return Job(str(number), about, replace(request, id=str(number)))

    def _request(self, identity: str, row: Row, history: Sequence[Message]) -> Request:
        seed = derive_seed(self.seed, identity, "ask")
        if self.raw:
            text = next((row[name] for name in ASKED if isinstance(row.get(name), str)), None)
            if not text:
                raise DataError(f"--raw: a row has one of {', '.join(ASKED)} with a text")
            return Request(identity, text, self.sampling, seed)
        given = self.source.prompt_format, self.sampling, history
        return replace(self.form.request(identity, row, *given), seed=seed)


def _turn(answer: Completion) -> Message:
    turn: Message = {"role": "assistant", "content": answer.text.strip()}
    return {**turn, "tool_calls": list(answer.tool_calls)} if answer.tool_calls else turn


def _without_margin(say: Callable[[str], None]) -> Callable[[str], None]:
    """Says nothing until there is more than white space: continuations begin with some."""
    begun = False

    def said(piece: str) -> None:
        nonlocal begun
        piece = piece if begun else piece.lstrip()
        begun = begun or bool(piece)
        if piece:
            say(piece)

    return said


def _nothing(completion: Any, came: Any) -> None: ...
