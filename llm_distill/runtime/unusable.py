"""Models that are there and cannot be used: files that cannot be read, servers that lack them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from llm_distill.distillation.hacking.settings import mixed_up
from llm_distill.distillation.teachers import mixed_tokenizers
from llm_distill.engines.settings import Found
from llm_distill.errors import ConfigError, ModelError
from llm_distill.models.readable import why_not_readable
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.impossible import Look, Problem
from llm_distill.stage import Stage, references
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.transfer_tokenizer import TransferTokenizer
from llm_distill.training.settings import TrainingSettings


@dataclass(frozen=True)
class Warned:
    """What may stop a run, with its place as in `Problem`."""

    problem: Problem


def unreadable(look: Look) -> Iterator[Problem]:
    """Configs, tokenizers and chat templates of what is to be loaded, each model once."""
    said = set()
    for _, stage, _, model in look.models():
        base = look.outside(model)
        if base is None or base in said or isinstance(stage, TransferTokenizer):
            continue
        config = look.pipeline.models[base]
        if config.engine.answering().is_stand_in and not isinstance(stage, TrainingSettings):
            continue
        said.add(base)
        folder = look.of.folder(base)
        if folder is None:
            continue  # it is said to be missing, or is downloaded when it is needed
        needs_template = config.prompt_format == "chat" and config.chat_template is None
        for message in why_not_readable(folder, needs_template):
            yield Problem(("models", base, "model_name_or_path"), message, ModelError)


def of_other_tokenizers(look: Look) -> Iterator[Problem]:
    """What compares tokens that two models do not share, as far as their files are here."""
    from llm_distill.distillation.alignment.vocabularies import difference, refusal

    for name, stage in look.stages():
        if isinstance(stage, ScoreLikelihood):
            yield from _of_a_mixture(look, name, stage)
        if not isinstance(stage, TrainDistill):
            continue
        losses, watch = stage.comparing_tokens(), stage.watch_hacking
        teachers = [stage.teacher] if stage.teacher else list((stage.teachers or {}).values())
        compared = [
            (teacher, ("losses", losses[0]), partial(refusal, losses[0], teacher, stage.model))
            for teacher in (teachers if losses else ())
        ]
        if watch is not None and watch.distance != "alm":
            place = ("watch_hacking", "distance")
            watched = {*filter(None, (stage.teacher if not losses else None, watch.golden))}
            compared += [
                (each, place, partial(mixed_up, watch.distance, each, stage.model))
                for each in sorted(watched)
            ]
        own = _tokenizer(look, stage.model) if compared else None
        for teacher, where, message in compared if own is not None else ():
            theirs = _tokenizer(look, teacher) if teacher != stage.model else None
            how = difference(theirs, own) if theirs is not None else None
            if how is not None:
                yield Problem(("stages", name, *where), message(how), ConfigError)


def _of_a_mixture(look: Look, name: str, stage: ScoreLikelihood) -> Iterator[Problem]:
    """Teachers whose scores cannot be mixed token by token."""
    from llm_distill.distillation.alignment.vocabularies import difference

    if stage.teachers is None or stage.teacher_weights is None:
        return
    first, *others = ((own, _tokenizer(look, model)) for own, model in stage.teachers.items())
    for other, tokenizer in others:
        if first[1] is None or tokenizer is None:
            continue
        how = difference(first[1], tokenizer)
        if how is not None:
            message = mixed_tokenizers(first[0], other, how)
            yield Problem(("stages", name, "teacher_weights"), message, ConfigError)


def _tokenizer(look: Look, model: str) -> Any:
    """Read from its file alone, within milliseconds; None where there is no such file."""
    from tokenizers import Tokenizer

    folder = look.of.folder(model)
    file = folder / "tokenizer.json" if folder is not None else None
    try:
        return Tokenizer.from_file(str(file)) if file is not None and file.is_file() else None
    except Exception:  # `unreadable` says it; the library has no class of its own
        return None


def served_models(pipeline: PipelineConfig, stages: Iterable[Stage]) -> list[str]:
    """The models on servers that these stages ask."""
    asked = dict.fromkeys(
        base_model(model, pipeline.stages)
        for stage in stages
        for place, model, kind in references(stage)
        if kind == "model" and stage.asks(place) is not None
    )
    return [base for base in asked if pipeline.models[base].engine.answering().is_served()]


def unserved(look: Look) -> Iterator[Problem | Warned]:
    """What the servers of what is to be asked say of their models. They are asked all at once."""
    models = served_models(look.pipeline, (stage for _, stage in look.stages()))

    def ask(base: str) -> list[Found]:
        config = look.pipeline.models[base]
        return list(config.engine.answering().look(config.model_name_or_path))

    with ThreadPoolExecutor(max_workers=16) as pool:
        said = list(pool.map(ask, models))
    writing = {  # what they write is not stored
        base_model(model, look.pipeline.stages)
        for _, stage in look.stages()
        for place, model, kind in references(stage)
        if kind == "model" and stage.asks(place) == "adapters"
    }
    for base, found in zip(models, said, strict=True):
        for each in found:
            problem = Problem(("models", base, *each.place), each.message, ModelError)
            # What is stored is not asked again, so that the server may not be needed.
            is_certain = each.is_certain and (base in writing or not look.has_answers(base))
            yield problem if is_certain else Warned(problem)
