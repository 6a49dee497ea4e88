"""The distances of a student from its teacher and from an oracle, measured while it is trained.

history: {"step": 50, "hacking/proxy": 0.21, "hacking/golden": 0.46, "hacking/forward_kl": 0.21,
          "hacking/reverse_kl": 0.30, "hacking/jsd": 0.05}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import Trainer, TrainerCallback

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.alignment.vocabularies import difference
from llm_distill.distillation.dataset import RowPreparation, prepared
from llm_distill.distillation.hacking.settings import mixed_up
from llm_distill.distillation.losses.known import LOSSES
from llm_distill.distillation.losses.loss import MeanOf, Needs
from llm_distill.distillation.losses.objective import counts
from llm_distill.distillation.settings import DistillSettings, LossWeights
from llm_distill.distillation.teacher.identity import scored_by
from llm_distill.distillation.teacher.online import OnlineBatches, TeacherInMemory
from llm_distill.distillation.teacher.own_teacher import OwnTeacher
from llm_distill.distillation.teacher.signal import BatchesOfRows
from llm_distill.distillation.teacher.stored import StoredScores
from llm_distill.errors import ConfigError, ModelError
from llm_distill.evaluation.hacking_figures import (
    GOLDEN,
    PREFIX,
    PROXY,
    hacking_tables,
    points_of,
    said_of,
)
from llm_distill.evaluation.results import Results, shown
from llm_distill.methods.hacking import judged, n_in_fit
from llm_distill.training.launch import encoded_once

if TYPE_CHECKING:
    from datasets import Dataset

    from llm_distill.distillation.alignment.encoding import RowEncoder
    from llm_distill.distillation.hacking.settings import WatchSettings
    from llm_distill.distillation.teacher.opening import Readers
    from llm_distill.distillation.teacher.signal import BatchSignal, TeacherSignal
    from llm_distill.stage import Context


@dataclass(frozen=True)
class Measure:
    """Texts, and what is measured of them. signal: of whom they are compared with; None: nobody."""

    dataset: Dataset
    settings: DistillSettings
    signal: TeacherSignal | None

    def open(self, said: BatchSignal | None, model: Any, device: torch.device) -> BatchSignal:
        """said: what the training has of the same teacher, which is not loaded twice."""
        if isinstance(said, OnlineBatches):
            return replace(said, settings=self.settings)
        return BatchesOfRows() if self.signal is None else self.signal.open(model, device)


@dataclass(frozen=True)
class Watch:
    """What a training measures on its way. golden: None without an oracle."""

    settings: WatchSettings
    proxy: Measure
    golden: Measure | None
    batch_size: int
    constant_rate: bool

    def tell(self, context: Context) -> None:
        """Of a training that is over: tables for the metrics, and a warning."""
        points = points_of(context.metrics["history"])
        if not points:  # it was trained to the end before it was watched
            return
        found = judged(points)
        own = Results.from_metrics(context.metrics).own  # a stage's tables are under one key
        context.metrics.update(shown(*own, *hacking_tables({"": (points, found)})))
        said = said_of(points, found, constant_rate=self.constant_rate)
        if said is not None:
            context.warn(said)

    def open(self, said: BatchSignal, model: Any, device: torch.device) -> Watching:
        """Loads what it takes. said: of the training. model: the student before its adapter."""
        measures = {PROXY: (self.proxy, self.proxy.open(said, model, device))}
        if self.golden is not None:
            measures[GOLDEN] = self.golden, self.golden.open(None, model, device)
        return Watching(self, measures)


class Watching(TrainerCallback):  # type: ignore[misc]
    """Measures before the first step, every `every` steps, and after the last.

    The figures go into the history, so that a training that goes on after a kill has those before.
    Nothing is drawn at random: the weights are those of a training that is not watched.
    """

    def __init__(self, watch: Watch, measures: dict[str, tuple[Measure, BatchSignal]]) -> None:
        self._watch, self._measures = watch, measures
        self.trainer: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == 0:
            self._measure()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self._watch.settings.every and state.global_step < state.max_steps:
            return
        self._measure()
        if self._watch.settings.on_hacking == "stop":
            self._stop_where_hacked(state)

    def _measure(self) -> None:
        figures: dict[str, float] = {}
        distance = self._watch.settings.distance
        was_training = self.trainer.model.training
        self.trainer.model.eval()
        try:
            for name, (measure, signal) in self._measures.items():
                found = self._means(measure, signal)
                figures[name] = found[distance] if distance in found else found["sft"]
                if name == PROXY:
                    figures |= {f"{PREFIX}{loss}": value for loss, value in found.items()}
        finally:
            self.trainer.model.train(was_training)
        is_due = self.trainer.control.should_log
        Trainer.log(self.trainer, figures)  # TRL's own would add what the training has yet to log
        self.trainer.control.should_log = is_due  # transformers takes its own point for said

    def _means(self, measure: Measure, signal: BatchSignal) -> dict[str, float]:
        """The mean of each loss over all rows, which the processes share."""
        trainer, losses = self.trainer, list(measure.settings.losses.weights())
        objective = trainer.objective(measure.settings, signal)
        collate = partial(signal.collate, pad_token_id=trainer.processing_class.pad_token_id)
        total = torch.zeros(len(losses) + len(MeanOf), dtype=torch.float64)
        with torch.no_grad(), trainer.compute_loss_context_manager():
            for rows, n_counted in self._batches(len(measure.dataset)):
                batch = collate([measure.dataset[row] for row in rows])
                found = trainer.sums(trainer.model, trainer._prepare_inputs(batch), objective)
                sums = torch.stack([found[name].double().cpu() for name in losses])
                total += n_counted * torch.cat([sums, counts(batch).double()])
        whole = trainer.accelerator.reduce(total.to(trainer.args.device), "sum").cpu()
        n_of = dict(zip(MeanOf, whole[len(losses) :].tolist(), strict=True))
        pairs = zip(losses, whole.tolist(), strict=False)
        return {name: value / max(1.0, n_of[LOSSES[name].mean_of]) for name, value in pairs}

    def _batches(self, n_rows: int) -> Iterator[tuple[range, int]]:
        """Rows of this process, and 1; or those of another and 0, so that all make equal passes."""
        size, args = self._watch.batch_size, self.trainer.args
        starts = range(0, n_rows, size)
        for first in range(0, len(starts), args.world_size):
            place = first + args.process_index
            start = starts[place if place < len(starts) else 0]
            yield range(start, min(start + size, n_rows)), int(place < len(starts))

    def _stop_where_hacked(self, state: Any) -> None:
        """Raises:
        ModelError: the student learns its teacher's faults.
        """
        every, points = self._watch.settings.every, points_of(state.log_history)
        to_come = -(-state.max_steps // every)
        found = judged(points, n_in_fit(to_come))
        if found[-1].is_hacking:
            said = said_of(points, found, constant_rate=self._watch.constant_rate)
            raise ModelError(f"{said}. To go on all the same set watch_hacking.on_hacking: warn")


def watch_of(stage: Any, context: Context, readers: Readers) -> Watch | None:
    """What a `train_distill` is to measure.

    Raises:
        ConfigError: tokenizers differ where distributions are compared.
        DataError: no row can be measured, or its scores are not the teacher's.
    """
    watch: WatchSettings | None = stage.watch_hacking
    if watch is None:
        return None
    own = LossWeights(**dict.fromkeys(watch.losses, 1.0))
    settings = DistillSettings(losses=own, alm=stage.alm, beta=stage.beta)
    prepare = partial(_measure, stage, context, readers.student)
    source = context.model(stage.teacher)
    teacher = _reader(stage, context, stage.teacher, readers.student)
    signal: TeacherSignal
    if stage.online:
        kind = OwnTeacher if stage.online == "adapter_off" else TeacherInMemory
        signal = kind(source, teacher, settings, readers.student)
    else:
        n_tokens = len(teacher.table.lengths)
        signal = StoredScores(watch.rows, stage.teacher, scored_by(source), n_tokens, settings)
    proxy, golden = prepare(watch.rows, "watched", settings, teacher, signal), None
    if watch.golden is not None:
        oracle = _reader(stage, context, watch.golden, readers.student)
        in_memory = TeacherInMemory(context.model(watch.golden), oracle, settings, readers.student)
        golden = prepare(watch.rows, "watched golden", settings, oracle, in_memory)
    elif watch.golden_rows is not None:
        entropy = DistillSettings(losses=LossWeights(sft=1.0))
        golden = prepare(watch.golden_rows, "watched golden", entropy, None, None)
    return Watch(
        watch,
        proxy,
        golden,
        stage.per_device_train_batch_size,
        stage.lr_scheduler_type.startswith("constant"),
    )


def _measure(
    stage: Any,
    context: Context,
    student: RowEncoder,
    name: str,
    folder: str,
    settings: DistillSettings,
    reader: RowEncoder | None,
    signal: TeacherSignal | None,
) -> Measure:
    turns, of_teacher = stage.turns(), stage.as_the_teacher_reads().turns()
    read = student, reader, turns, of_teacher, settings, signal, stage.tools(), stage.is_open
    preparation = RowPreparation(*read)

    def encode() -> Dataset:
        rows = context.each_row(name)
        return prepared(rows, preparation, context.drop, name, stage.max_dropped)

    return Measure(encoded_once(encode, context.work_dir, folder), settings, signal)


def _reader(stage: Any, context: Context, name: str, student: RowEncoder) -> RowEncoder:
    """How the teacher or the oracle reads a row."""
    reader = row_encoder(context.model(name), None, answers=stage.answers, thoughts=stage.thoughts)
    distance = stage.watch_hacking.distance
    if LOSSES[distance].needs & Needs.DISTRIBUTIONS:
        how = difference(reader.tokenizer, student.tokenizer)
        if how is not None:
            raise ConfigError(mixed_up(distance, name, stage.model, how))
    return reader
