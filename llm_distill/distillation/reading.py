"""The rows of a `train_distill` as its training data; the metrics get how the texts align."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_distill.distillation.dataset import RowPreparation, prepared
from llm_distill.distillation.losses.loss import Needs
from llm_distill.distillation.losses.opd import check_writers
from llm_distill.distillation.rollouts.rows import RolloutRows
from llm_distill.distillation.rollouts.served import ServedWriter
from llm_distill.distillation.rollouts.step import Rollouts, Writes
from llm_distill.distillation.rollouts.writing import Writer
from llm_distill.distillation.teacher.on_engine import TeacherOnEngine
from llm_distill.distillation.teacher.opening import Readers, readers
from llm_distill.distillation.teacher.stored import StoredScores
from llm_distill.distillation.teachers import ByTeacher
from llm_distill.evaluation.results import Results, shown

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.stage import Context


@dataclass(frozen=True)
class Reading:
    """stage: a `train_distill`. readers: its models."""

    stage: Any
    context: Context
    readers: Readers

    @classmethod
    def of(cls, stage: Any, context: Context) -> Reading:
        """Raises:
        ConfigError: see `readers`.
        """
        return cls(stage, context, readers(stage, context))

    def dataset(self, name: str) -> Dataset:
        """The rows of the stage `name`, encoded; see `prepared`."""
        stage, context = self.stage, self.context
        self._say_if_scored(name)
        preparation = self._preparation(name)
        by_teacher = _by_teacher(name, preparation, self.readers.several)
        rows = context.each_row(name)
        reads = by_teacher or preparation
        encode = stage.with_sample_weight(reads.encode, name)
        dataset = prepared(rows, reads, context.drop, name, stage.max_dropped, encode)
        if stage.rollouts is None:  # else this student writes them, in each step
            read = [preparation, *(by_teacher.preparations.values() if by_teacher else ())]
            n_unknown = sum(one.n_unknown for one in read)
            unknown = check_writers(n_unknown, len(dataset), stage.opd)
            if unknown is not None:
                context.warn(unknown)
        has_text = stage.rollouts is None or stage.rollouts.share < 1
        if name == stage.rows and has_text and stage.losses.needing(Needs.CHUNKS | Needs.SPANS):
            aligned = Results(alignment=preparation.report.figures())
            context.metrics.update(aligned.to_metrics())
        if name == stage.rows and by_teacher is not None:
            for title in by_teacher.without_rows():
                context.warn(f"no row of '{name}' is trained on that the teacher '{title}' scored")
            context.metrics.update(shown(by_teacher.figures()))
        return dataset

    def rollouts(self, seed: int) -> Rollouts | None:
        """What writes texts in each step, if the stage asks for it. seed: of the stage."""
        stage, preparation = self.stage, self._preparation(self.stage.rows)
        if not isinstance(preparation, RolloutRows):
            return None
        rows, warn = self.context.rows(stage.rows), self.context.warn
        signal = self.readers.signal
        asked = signal if isinstance(signal, TeacherOnEngine) else None
        given = rows, preparation, self._writer(), seed, stage.max_dropped, warn
        return Rollouts(stage.rollouts, *given, asked)

    def _writer(self) -> Writes:
        stage, student, context = self.stage, self.readers.student, self.context
        if stage.rollouts.writer == "training":
            return Writer(student, stage.rollouts)
        context.ask_in_turn([name for name in (stage.model, stage.teacher) if name])
        return ServedWriter(
            stage.model,
            student.tokenizer,
            student.pairs.ends,
            stage.rollouts,
            partial(context.generate, stage.model),
            context.work_dir / "adapters",
            context.warn,
        )

    def _say_if_scored(self, name: str) -> None:
        stage = self.stage
        is_scored = "teacher_logps" in self.context.rows(name).column_names
        if stage.online and stage.from_teacher() and is_scored:
            self.context.warn(
                f"'{name}' has stored scores (teacher_logps), which online: "
                f"{str(stage.online).lower()} does not use: the teacher scores the rows anew; set "
                "online: false to train on them"
            )

    def _preparation(self, name: str) -> RowPreparation:
        """Of the rows of `name`; those that are held out keep their own text."""
        stage, of = self.stage, self.readers
        signal = of.signal
        if isinstance(signal, StoredScores):
            signal = replace(signal, rows=name)  # for messages
        as_the_teacher = stage.as_the_teacher_reads().turns()
        read = stage.turns(), as_the_teacher, stage, signal, stage.tools()
        if stage.rollouts is None or of.teacher is None or name != stage.rows:
            return RowPreparation(of.student, of.teacher, *read, stage.is_open)
        return RolloutRows(
            of.student,
            of.teacher,
            *read,
            stage.is_open_if_read,
            rollouts=stage.rollouts,
            with_text=stage.with_text,
            has_text=stage.has_text,
        )


def _by_teacher(
    name: str, one: RowPreparation, several: Mapping[str, tuple[RowEncoder, StoredScores]]
) -> ByTeacher | None:
    """The preparation of rows that several teachers scored, each as `one` with its own teacher."""
    if not several:
        return None
    own = {
        says.scored_by: replace(one, teacher=encoder, signal=replace(says, rows=name))
        for encoder, says in several.values()
    }
    titles = {says.scored_by: title for title, (_, says) in several.items()}
    return ByTeacher(name, own, titles, one.report)
