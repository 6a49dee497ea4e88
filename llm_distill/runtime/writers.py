"""Whether the text that a student learns word by word is by the teacher that scored it.

A student that learns the words of one teacher and the likelihoods of another is drawn two ways, and
settles on neither.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from llm_distill.pipeline.graph import base_model
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.stage import Stage
from llm_distill.stages.generate import Generate
from llm_distill.stages.score_likelihood import ScoreLikelihood
from llm_distill.stages.train_distill import TrainDistill


def of_another_teacher(pipeline: PipelineConfig, names: Iterable[str]) -> Iterator[str]:
    """A warning for each of these stages that does so, with its place in the file."""
    for name in names:
        stage = pipeline.stages[name]
        if not isinstance(stage, TrainDistill) or not stage.losses.sft or not stage.from_teacher():
            continue
        writer, scorers = _writer_and_scorers(stage, pipeline.stages)
        if writer is None:
            continue
        base = base_model(writer, pipeline.stages)
        others = [one for one in scorers if base_model(one, pipeline.stages) != base]
        if not others or base == base_model(stage.model, pipeline.stages):
            continue
        problems = pipeline.problems()
        problems.add(
            ("stages", name, "losses"),
            f"sft learns the words of '{writer}', and {' and '.join(map(repr, others))} scored "
            "them: a student that is drawn to two teachers settles on neither; leave sft out, or "
            "have each teacher score what it wrote",
        )
        yield from problems.found


def _writer_and_scorers(
    stage: TrainDistill, stages: Mapping[str, Stage]
) -> tuple[str | None, list[str]]:
    """The model that wrote what is trained, if a stage here asked it, and those that scored it."""
    column = stage.messages_column or stage.text_column or stage.completion_column
    scorers = [stage.teacher] if stage.teacher is not None else []
    name = stage.rows
    while name in stages:
        above = stages[name]
        if isinstance(above, ScoreLikelihood):
            scorers = [above.model] if above.model else list((above.teachers or {}).values())
        if isinstance(above, Generate):
            kept = above.parse.keep_text_as if above.parse is not None else None
            written = {above.completion_column, kept, above.messages_column} - {None}
            return (above.model if column in written else None), list(dict.fromkeys(scorers))
        rows = getattr(above, "rows", "")
        name = rows if isinstance(rows, str) else ""  # a mixture's texts have several writers
    return None, scorers
