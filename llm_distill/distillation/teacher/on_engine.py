"""A teacher that is asked about the texts of each step where it is: on a server, say.

An engine gives one log-probability a token, so this is for losses from chunks without debiasing.
All texts of a step are asked at once, whatever the number of passes; where several processes share
the training, the first asks for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from llm_distill.distillation.alignment.chunks import TokenScores, at_tokens
from llm_distill.distillation.alignment.encoding import in_loss
from llm_distill.distillation.asked_once import asked_once
from llm_distill.distillation.teacher.engine_scores import score_request, token_logps
from llm_distill.distillation.teacher.online import ALIGNMENT, with_chunks
from llm_distill.distillation.teacher.signal import BatchesOfRows
from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.errors import ModelError
from llm_distill.training.data import NO_LOSS
from llm_distill.training.launch import is_main

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow, RowEncoder
    from llm_distill.distillation.batches import Example
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.rows.columns import Row

    Text = tuple[NDArray[np.int32], NDArray[np.int64]]
    """Its tokens, and the index of each that is in the loss."""

PROBE = "2 + 2 = 4."
"""Asked before the training: that, as the first of all requests, finds a server of no use."""


class Ask(Protocol):
    """`stage.Context.score` of the teacher."""

    def __call__(
        self, requests: Sequence[ScoreRequest], *, total: int
    ) -> Iterator[tuple[ScoreRequest, Score]]: ...


@dataclass
class TeacherOnEngine:
    """A `TeacherSignal`: what an engine says of examples, once these are put together.

    name, encoder: the teacher's. warn: is told of the first text that has no likelihoods.
    """

    name: str
    encoder: RowEncoder
    settings: DistillSettings
    ask: Ask
    warn: Callable[[str], None]
    in_process: ClassVar[bool] = True
    _n_scored: int = 0
    _has_warned: bool = False

    def of_tokens(self, row: Row, teacher: EncodedRow) -> dict[str, Any]:
        """The teacher's tokens, of which it is asked with the others of a step."""
        return {"teacher_ids": teacher.ids, "teacher_in_loss": in_loss(teacher)}

    def of_chunks(
        self, row: Row, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[dict[str, Any], AlignedRow]:
        """The alignment, until there are scores."""
        return {name: getattr(found, name) for name in ALIGNMENT}, found

    def open(self, student: Any, device: torch.device) -> BatchesOfRows:
        """Batches are of examples that `scored` has made, which have all of it."""
        return BatchesOfRows()

    def probe(self) -> None:
        """Raises:
        ModelError: the engine gives no likelihoods.
        """
        if not is_main():
            return
        ids = self.encoder.tokenizer(PROBE, add_special_tokens=False)["input_ids"]
        for _, score in self.ask([ScoreRequest("probe", ids[:1], ids[1:])], total=1):
            if score.error is not None:
                raise ModelError(
                    f"the teacher '{self.name}' is asked for likelihoods before the training "
                    f"(online: engine), and gives none: {score.error}"
                )

    def scored(
        self, examples: Sequence[Example], names: Sequence[str], step: int
    ) -> tuple[list[Example], list[bool]]:
        """The examples with what the teacher says of them, and of which it says something.

        Those of which it says nothing have no token in the loss.

        names: of their rows, for messages. step: counted from 0, likewise.

        Raises:
            ModelError: the engine fails, gives no likelihoods of any text, or computes NaN.
        """
        texts = [(np.asarray(e["teacher_ids"]), np.asarray(e["teacher_in_loss"])) for e in examples]
        named = list(zip(texts, names, strict=True))
        said = asked_once(named, lambda asked: self._asked(asked, step))
        found = [
            self._compared(_silent(example), np.zeros(0))
            if isinstance(logps, str)
            else self._compared(example, logps)
            for example, logps in zip(examples, said, strict=True)
        ]
        return found, [not isinstance(logps, str) for logps in said]

    def _compared(self, example: Example, logps: NDArray[np.floating]) -> Example:
        """The example with these log-probabilities of the teacher's tokens in the loss."""
        ids, index = np.asarray(example["teacher_ids"]), np.asarray(example["teacher_in_loss"])
        scores = TokenScores(at_tokens(len(ids), index, logps), None)
        return with_chunks(example, scores, self.settings.chunking())

    def _asked(
        self, named: Sequence[tuple[Text, str]], step: int
    ) -> list[NDArray[np.float32] | str]:
        """By text, the log-probability of each token in the loss; or why there are none.

        named: each text, and the name of its row.
        """
        texts, names = [text for text, _ in named], [name for _, name in named]
        found: list[NDArray[np.float32] | str] = [np.zeros(0, np.float32) for _ in texts]
        asked = [place for place, (_, index) in enumerate(texts) if len(index)]
        requests = [
            score_request(f"{place} {names[place]}", *texts[place], top_k=0) for place in asked
        ]
        first_failure = ""
        scores: Iterable[tuple[ScoreRequest, Score]] = ()
        if requests:
            scores = self.ask(requests, total=len(requests))
        for place, (_, score) in zip(asked, scores, strict=True):
            of = f"step {step + 1}, row '{names[place]}'"
            if score.is_passing:
                raise ModelError(
                    f"the teacher '{self.name}' gives no likelihoods of a text ({of}): "
                    f"{score.error}; once it answers, run the file again: the training goes on "
                    "from its last checkpoint (save_steps), and what was scored is kept"
                )
            logps = score.error or token_logps(score, texts[place][1], self.name, names[place])
            found[place] = logps
            if isinstance(logps, str):
                first_failure = first_failure or f"{of}: {logps}"
            else:
                self._n_scored += 1
        if first_failure and not self._n_scored:
            raise ModelError(
                f"the teacher '{self.name}' gives no likelihoods of any text; {first_failure}"
            )
        if first_failure and not self._has_warned:
            self._has_warned = True
            self.warn(
                f"the teacher '{self.name}' gives no likelihoods of some texts, which count for "
                f"nothing; {first_failure}"
            )
        return found


def _silent(example: Example) -> Example:
    """The example with no token in the loss."""
    of_loss = (*ALIGNMENT, "teacher_in_loss", "chunk_is_token")
    none = {name: np.asarray(example[name])[:0] for name in of_loss if name in example}
    labels = np.full(len(example["input_ids"]), NO_LOSS, np.int32)
    return {**example, "labels": labels, **none}
