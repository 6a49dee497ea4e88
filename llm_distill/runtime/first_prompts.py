"""The first prompts of each stage whose rows are there, rendered as the run will render them.

stages.answers.template: template ask.jinja: question is null or empty
stages.talk.model: refused by the chat template: System role not supported
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from llm_distill.errors import ConfigError, DataError, LLMDistillError, ModelError
from llm_distill.pipeline.outside import place_of
from llm_distill.pipeline.problems import Path as Place
from llm_distill.pipeline.problems import parts
from llm_distill.rows.unusable import OF_THE_TEMPLATE
from llm_distill.runtime.estimate import asking_with_rows
from llm_distill.runtime.impossible import Problem
from llm_distill.runtime.plan import Decision
from llm_distill.runtime.resolve import Resolver
from llm_distill.runtime.unusable import Warned
from llm_distill.stage import Stage, references, rows_of

ROWS, MOST_REQUESTS = 20, 400
"""Of each input and of each stage that are looked at."""
OF_A_PROMPT = ("template", "the prompt is empty")
"""Words of an error that no answer can be the cause of."""


def unaskable(
    decisions: Sequence[Decision],
    resolver: Resolver,
    folder_of: Callable[[str], Path | None],
    wanted: Callable[[str], bool],
) -> Iterator[Problem | Warned]:
    """What no prompt of a stage can be made of; where it is only some, a warning.

    resolver: with the artifacts that are reused. folder_of: where a model's files are, or None.
    wanted: whether a stage is looked at.
    """
    found = asking_with_rows(decisions, resolver)
    names = [name for name in found if wanted(name)]
    if not names:
        return
    from llm_distill.runtime.prompt_sample import Sampler

    def folder_of_loaded(model: str) -> Path | None:
        """Of others it is not known how they are spoken to: by a server, or by a script."""
        engine = resolver.model_config(model).engine.answering()
        return folder_of(model) if engine.loads_weights else None

    sampler = Sampler(resolver, folder_of_loaded)
    for name in names:
        stage = resolver.pipeline.stages[name]
        size, n_requests = _size(stage, found[name])
        tried = sampler.tried(name, _bearing(stage, 0.999), size, n_requests)
        if _is_of_a_prompt(tried.error):
            problem = _problem(name, stage, tried.error, resolver)
            yield problem if tried.answered == 0 else Warned(problem)
        elif tried.error is None and tried.answered < n_requests:
            some = sampler.tried(name, _bearing(stage, 0.0), size, n_requests)
            if _is_of_a_prompt(some.error):
                yield Warned(_problem(name, stage, some.error, resolver))


def _size(stage: Stage, rows: Mapping[str, int | None]) -> tuple[int, int]:
    """Rows of each input and the requests that they make, of which no more are looked at."""
    there = {name: min(n or ROWS, ROWS) for name, n in rows.items()}
    asked: Mapping[str, tuple[int, int]] = {}
    with suppress(TypeError, ValueError):
        asked = stage.most_asked(there) or {}
    return ROWS, min(sum(n for n, _ in asked.values()), MOST_REQUESTS)


def _bearing(stage: Stage, share: float) -> Stage:
    """The stage, with another share of requests that may fail: all but one, or none."""
    if "max_error_rate" not in type(stage).model_fields:
        return stage
    return stage.model_copy(update={"max_error_rate": share})


def _is_of_a_prompt(error: Exception | None) -> bool:
    if isinstance(error, ConfigError | ModelError):
        return True
    return isinstance(error, DataError) and any(word in str(error) for word in OF_A_PROMPT)


def _problem(name: str, stage: Stage, error: Exception | None, resolver: Resolver) -> Problem:
    said = str(error)
    reason = said.partition("first error: ")[2] or said
    kind = type(error) if isinstance(error, LLMDistillError) else DataError
    return Problem(("stages", name, *_place(stage, said, resolver)), f"a prompt: {reason}", kind)


def _place(stage: Stage, said: str, resolver: Resolver) -> Place:
    """The template or the model that is spoken of."""
    if OF_THE_TEMPLATE in said:
        models = [place for place, _, kind in references(stage) if kind == "model"]
        return parts(models[0]) if len(models) == 1 else ()
    named = stage.template_variables(dict.fromkeys(rows_of(stage)))
    return next((place_of(t, stage) for t in named if f"template {t}:" in said), ())
