"""Have a model grade each candidate by a rubric.

in:  {"id": "q1-0", "question": "2 + 2?", "completion": "2 + 2 = 4. <ans>4</ans>"}
out: {"id": "q1-0", "question": "2 + 2?", "completion": "2 + 2 = 4. <ans>4</ans>",
      "score": 8.5, "metric": "judge", "n_grades": 2, "parse_failures": 1}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from statistics import fmean
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.asking_stage import AskingStage
from llm_distill.engines.base import SamplingSettings
from llm_distill.engines.requests import Job, make_job
from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.judging.scale import Scale
from llm_distill.methods.examples import usable
from llm_distill.methods.in_context_score import mean_by
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.statistics import mean_interval
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput


class ScoreJudge(AskingStage):
    """Asks a judge for a grade of each candidate, `n` times; the score is the mean of its grades.

    The template is given the row, `lowest`, `highest` and `constrained`, and asks for a number in
    `<grade>…</grade>`; the last one counts. An answer without a grade on the scale is no grade, and
    counted in `parse_failures`; a candidate without any grade has no score. One with an `error`,
    or without a text that the template reads, is passed on without being asked about.
    """

    added_columns = ("score", "metric", "n_grades", "parse_failures")
    stage: Literal["score_judge"]
    rows: Rows = Field(description="the stage whose rows are candidates")
    model: Model = Field(description="the judge")
    template: str = Field(
        "judge/grade.jinja", description="the rubric; the default reads `question`, `completion`"
    )
    lowest: int = Field(1, ge=0, description="the lower end of the scale")
    highest: int = Field(10, ge=1, le=100, description="the upper end of the scale")
    n: int = Field(1, ge=1, description="grades that are asked for each candidate")
    constrain: bool = Field(
        False,
        description="only a whole number of the scale, without reasons, with kind: vllm or a "
        "server that can; other engines are asked for the tag",
    )
    sampling: SamplingSettings = Field(
        SamplingSettings(temperature=0, max_tokens=512), description="how grades are drawn"
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.lowest >= self.highest:
            raise ValueError(f"lowest: {self.lowest} must be below highest: {self.highest}")
        if self.n > 1 and self.sampling.temperature == 0:
            raise ValueError(
                f"n: {self.n} at temperature 0 would be the same grade every time; set "
                "sampling: {temperature: …}"
            )
        return self

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        return None if n is None else {self.model: (n * self.n, self.sampling.max_tokens)}

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id"}}

    def template_variables(self, inputs: Mapping[str, Columns]) -> dict[str, Columns]:
        return {self.template: self.offered(inputs[self.rows], *self._scale.variables())}

    @property
    def _scale(self) -> Scale:
        return Scale(self.lowest, self.highest)

    def is_seeded(self) -> bool:
        return self.sampling.temperature > 0

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), self.output_features(context))

    def _rows(self, context: Context) -> Iterator[Row]:
        read = load_template(self.template).variables
        total = self.n * sum(self._is_gradable(row, read) for row in context.each_row(self.rows))
        if not total:
            raise DataError(
                f"no row of '{self.rows}' can be graded: each has an error, or nothing in a column "
                f"that {self.template} reads"
            )
        budget = self.budget(total)
        answers = self.ask(context, self.model, self._jobs(context), total, budget)
        scale: Counter[str] = Counter()
        by_strategy: list[tuple[str, float]] = []
        failures = unscored = 0
        for row in context.each_row(self.rows):
            grades, unreadable = [], 0
            for _, completion in islice(answers, self.n if self._is_gradable(row, read) else 0):
                if completion.error is not None:
                    continue
                grade = self._scale.read(completion)
                unreadable += grade is None
                grades += [] if grade is None else [grade]
            scale.update(f"{grade:g}" for grade in grades)
            failures += unreadable
            unscored += not grades
            if grades:
                by_strategy.append((str(row.get("strategy") or "all"), fmean(grades)))
            yield {
                **row,
                "score": fmean(grades) if grades else None,
                "metric": "judge",
                "n_grades": len(grades),
                "parse_failures": unreadable,
            }
        for _ in answers:  # lets the bar and the counts of the requests end
            pass
        if not by_strategy:
            raise DataError(
                f"none of {total} answers of '{self.model}' has a grade from {self._scale} "
                f"({budget.figures()['truncated']} were cut by max_tokens); check "
                "the template, or raise it"
            )
        if unscored:
            context.warn(f"{unscored} of {len(context.rows(self.rows))} candidates have no score")
        context.metrics.update(
            **budget.figures(),
            unscored=unscored,
            parse_failures=failures,
            mean_score=mean_by(by_strategy),
            grades=dict(sorted(scale.items(), key=lambda item: float(item[0]))),
            **shown(self._mean_grades(by_strategy)),
        )

    def _mean_grades(self, by_strategy: Sequence[tuple[str, float]]) -> FigureTable:
        """The mean grade of the rows, of each strategy where there are several."""
        groups: dict[str, list[float]] = {}
        for name, score in by_strategy:
            groups.setdefault(name, []).append(score)
        figures = []
        for name, scores in groups.items():
            found = mean_interval(scores) if len(scores) > 1 else None
            low, high = (None, None) if found is None else (found.low, found.high)
            labels = {"rows": self.rows} if len(groups) == 1 else {"strategy": name}
            figures.append(Figure(labels, fmean(scores), low, high, len(scores)))
        return FigureTable(f"mean grade, {self.lowest} to {self.highest}", tuple(figures))

    def _is_gradable(self, row: Row, read: Collection[str]) -> bool:
        return usable(self.values(row), read)

    def _jobs(self, context: Context) -> Iterator[Job[None]]:
        template = load_template(self.template)
        prompt_format = context.model(self.model).prompt_format
        held = self.constrain and context.holds_structure(self.model)
        structure = self._scale.structure if held else None
        own = self._scale.variables(held)
        for row in context.each_row(self.rows):
            if not self._is_gradable(row, template.variables):
                continue
            values = {**self.values(row), **own}
            for index in range(self.n):
                seed = derive_seed(context.seed, self.model, row["id"], index)
                name = f"{row['id']}-{index}"
                yield make_job(
                    name, None, template, values, prompt_format, self.sampling, seed, structure
                )[0]
