"""How a student and its teachers read, and where the teachers' likelihoods come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from llm_distill.distillation.alignment.encoding import RowEncoder, row_encoder
from llm_distill.distillation.alignment.vocabularies import difference, refusal
from llm_distill.distillation.teacher.identity import scored_by
from llm_distill.distillation.teacher.mixture import mixed_by, shares_of
from llm_distill.distillation.teacher.on_engine import TeacherOnEngine
from llm_distill.distillation.teacher.online import TeacherInMemory
from llm_distill.distillation.teacher.own_teacher import OwnTeacher
from llm_distill.distillation.teacher.stored import StoredScores
from llm_distill.errors import ConfigError

if TYPE_CHECKING:
    from llm_distill.distillation.teacher.signal import TeacherSignal
    from llm_distill.stage import Context


@dataclass(frozen=True)
class Readers:
    """The models of a `train_distill`.

    teacher, signal: how it reads, and what it says; None where no loss needs it, or there are
        several. several: of `teachers`, by their names, a model once.
    """

    student: RowEncoder
    teacher: RowEncoder | None = None
    signal: TeacherSignal | None = None
    several: dict[str, tuple[RowEncoder, StoredScores]] = field(default_factory=dict)


def readers(stage: Any, context: Context) -> Readers:
    """stage: a `train_distill`.

    Raises:
        ConfigError: a loss needs the same tokenizer on both sides, and they differ.
        ModelError: a teacher that is asked by its engine gives no likelihoods.
    """
    student = row_encoder(context.model(stage.model), stage.max_length, **_turns(stage))
    if not stage.from_teacher():
        return Readers(student)
    if stage.teachers is not None:
        return Readers(student, several=_several(stage, context, student))
    teacher = _encoder(stage, context, stage.teacher, student)
    return Readers(student, teacher, _signal(stage, context, teacher, student))


def _turns(stage: Any) -> dict[str, Any]:
    return {"answers": stage.answers, "thoughts": stage.thoughts}


def _encoder(stage: Any, context: Context, name: str, student: RowEncoder) -> RowEncoder:
    teacher = row_encoder(context.model(name), None, **_turns(stage))
    shared = stage.comparing_tokens()
    how = difference(teacher.tokenizer, student.tokenizer) if shared else None
    if how is not None:
        raise ConfigError(refusal(shared[0], name, stage.model, how))
    return teacher


def _signal(
    stage: Any, context: Context, teacher: RowEncoder, student: RowEncoder
) -> TeacherSignal:
    source = context.model(stage.teacher)
    if not stage.online:
        n_tokens = len(teacher.table.lengths)
        return StoredScores(stage.rows, stage.teacher, scored_by(source), n_tokens, stage)
    if stage.online == "engine":
        ask = partial(context.score, stage.teacher)
        asked = TeacherOnEngine(stage.teacher, teacher, stage, ask, context.warn)
        asked.probe()
        return asked
    kind = OwnTeacher if stage.online == "adapter_off" else TeacherInMemory
    return kind(source, teacher, stage, student)


def _several(
    stage: Any, context: Context, student: RowEncoder
) -> dict[str, tuple[RowEncoder, StoredScores]]:
    names: dict[str, list[str]] = {}
    for name, model in stage.teachers.items():
        names.setdefault(scored_by(context.model(model)), []).append(name)
    if stage.teacher_weights is not None:  # whose teachers have one tokenizer
        weights = shares_of(stage.teacher_weights)
        scorers = [(scored_by(context.model(m)), weights[n]) for n, m in stage.teachers.items()]
        names = {mixed_by(scorers): list(stage.teachers)}
    found = {}
    for who, own in names.items():
        model = stage.teachers[own[0]]
        teacher = _encoder(stage, context, model, student)
        says = StoredScores(stage.rows, model, who, len(teacher.table.lengths), stage)
        found[", ".join(own)] = teacher, says
    return found
