"""Models that are there and cannot be used: files that cannot be read, servers that lack them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from llm_distill.engines.settings import Found
from llm_distill.errors import ConfigError, ModelError
from llm_distill.models.readable import why_not_readable
from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.impossible import Look, Problem
from llm_distill.stage import Stage, references
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
    """Losses over tokens that teacher and student do not share, as far as their files are here."""
    from llm_distill.distillation.alignment.vocabularies import difference, refusal

    for name, stage in look.stages():
        if not isinstance(stage, TrainDistill) or stage.teacher == stage.model:
            continue
        losses = stage.comparing_tokens()
        teachers = [stage.teacher] if stage.teacher else list((stage.teachers or {}).values())
        own = _tokenizer(look, stage.model) if losses else None
        for teacher in teachers if own is not None else ():
            theirs = _tokenizer(look, teacher)
            how = difference(theirs, own) if theirs is not None else None
            if how is not None:
                message = refusal(losses[0], teacher, stage.model, how)
                yield Problem(("stages", name, "losses", losses[0]), message, ConfigError)


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
    for base, found in zip(models, said, strict=True):
        for each in found:
            problem = Problem(("models", base, *each.place), each.message, ModelError)
            # What is stored is not asked again, so that the server may not be needed.
            is_certain = each.is_certain and not look.has_answers(base)
            yield problem if is_certain else Warned(problem)
