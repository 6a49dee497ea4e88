"""What a training is told by its teacher, by whatever way: one protocol, a file for each way.

`stored.py`: scores that the rows have. `online.py`: a teacher in memory. `own_teacher.py`: the
model itself as it was before its adapter. `on_engine.py`: a teacher on a server, asked about each
step's texts. To add one: write it in a file of its own beside these, and let `opening.readers` make
it. The dataset, the collator, the objective and the trainer ask the signal; none of them tests
which it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llm_distill.distillation.batches import Example, collate
from llm_distill.distillation.losses.divergence import divergences_from_top

if TYPE_CHECKING:
    import torch

    from llm_distill.distillation.alignment.aligned import AlignedRow
    from llm_distill.distillation.alignment.encoding import EncodedRow
    from llm_distill.distillation.lm_head.head import Head
    from llm_distill.distillation.losses.loss import Batch, Divergences, SpanSums
    from llm_distill.rows.columns import Row


class TeacherSignal(Protocol):
    """What a teacher adds to the examples, before training; `open` gives what it adds to batches.

    A signal gives what the losses of the settings need, and nothing for those that are not named.

    in_process: batches can only be made in the training's own process, and are on its device.
    """

    @property
    def in_process(self) -> bool: ...

    def of_tokens(self, row: Row, teacher: EncodedRow) -> dict[str, Any]:
        """What it adds to the example of a row: columns, all but those of chunks.

        teacher: the row as the teacher reads it.

        Raises:
            DataError: what the row has of the teacher is not this teacher's, or not of this text.
        """

    def of_chunks(
        self, row: Row, teacher: EncodedRow, found: AlignedRow, n_tokens: int
    ) -> tuple[dict[str, Any], AlignedRow]:
        """What it adds where a loss compares chunks: columns, and the chunks as they are compared.

        found: the chunks as the texts align. n_tokens: of the student's row.

        Raises:
            DataError: what the row has of the teacher cannot be used.
        """

    def open(self, student: Any, device: torch.device) -> BatchSignal:
        """What speaks of batches, on the device that training uses; loads what it takes.

        student: the model that is trained, before PEFT has put an adapter into it.
        """


class BatchSignal(Protocol):
    """What a teacher adds to the batches, and what whole distributions are compared with."""

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        """A batch as `batches.collate` makes it, with what `divergences` reads."""

    def divergences(
        self,
        hidden: torch.Tensor,
        head: Head,
        batch: Batch,
        divergences: Divergences,
    ) -> dict[str, torch.Tensor]:
        """The losses by whole distributions, summed over the labelled tokens; by the loss's name.

        hidden: the student's, of the labelled tokens, [L, H]. head: the student's.
        """

    def span_losses(
        self, hidden: torch.Tensor, head: Head, batch: Batch, losses: SpanSums
    ) -> dict[str, torch.Tensor]:
        """The losses by distributions over spans, summed over these; otherwise as `divergences`."""


class BatchesOfRows:
    """Nothing is added to a batch: the rows have all of it. Distributions are the likeliest tokens.

    Also for a training without a teacher, whose losses ask for none.
    """

    def collate(self, examples: Sequence[Example], pad_token_id: int) -> dict[str, torch.Tensor]:
        return collate(examples, pad_token_id)

    def divergences(
        self,
        hidden: torch.Tensor,
        head: Head,
        batch: Batch,
        divergences: Divergences,
    ) -> dict[str, torch.Tensor]:
        return divergences_from_top(hidden, head, batch["top_ids"], batch["top_logps"], divergences)

    def span_losses(
        self, hidden: torch.Tensor, head: Head, batch: Batch, losses: SpanSums
    ) -> dict[str, torch.Tensor]:
        raise TypeError("rows hold no distributions over two vocabularies")
