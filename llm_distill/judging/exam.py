"""The answers of an exam's models before a judge: columns for their rows, and tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llm_distill.evaluation.judge_results import (
    OUTCOMES,
    GradeResults,
    Outcome,
    PairResults,
    judge_table,
)
from llm_distill.evaluation.result_rows import AgreementRow
from llm_distill.evaluation.results import FigureTable
from llm_distill.judging.answers import Answer, Compared, comparisons, grades
from llm_distill.judging.judge import Ask, Judge
from llm_distill.judging.labelled import Labelled, agreement, read_sample
from llm_distill.judging.panel_figures import unreadable
from llm_distill.judging.settings import JudgeSettings
from llm_distill.methods.answers import extract_answer
from llm_distill.prompts import load_template
from llm_distill.rows.columns import Row
from llm_distill.rows.thoughts import split_thoughts
from llm_distill.stage import Context

COLUMNS = {
    "grade": ("judge_grade", "judge_replies"),
    "pairwise": ("judge_outcome", "judge_replies"),
}
"""Those that rows get, by mode."""


@dataclass
class ExamJudge:
    """Judges the answers of an exam, and tells what it found.

    Attributes:
        settings: Of the judge.
        judge: Is asked.
        items: By id, what the template is given of an item.
        sample: What people have judged; None without a gate.
        baseline: Of pairs: the model that others are compared with.
    """

    settings: JudgeSettings
    judge: Judge
    items: Mapping[str, Mapping[str, Any]]
    sample: Sequence[Labelled] | None
    baseline: str
    _results: GradeResults | PairResults | None = None
    _agreed: Sequence[AgreementRow] = ()
    _counts: Counter[str] = field(default_factory=Counter)

    def judged(self, rows: Sequence[Row]) -> Iterator[Row]:
        """The exam's rows with the judge's columns, after the judge has passed its gate.

        Raises:
            DataError: The judge agrees too little with people, or ignores the form.
        """
        if self.sample is not None:
            self._agreed = agreement(self.sample, self.judge, self.settings)
        yield from self._compared(rows) if self.settings.is_pairwise else self._graded(rows)

    def tables(self, warn: Callable[[str], None]) -> tuple[FigureTable, ...]:
        """What was found, after all rows; warn: is told of replies that could not be read."""
        assert self._results is not None
        judge = self.judge
        if judge.unreadable:
            warn(unreadable(judge))
        counts = {**judge.counts(), **self._counts}
        of_judge = judge_table(self._agreed, self._results.biases(), counts)
        return (*self._results.tables(), of_judge)

    def _graded(self, rows: Sequence[Row]) -> Iterator[Row]:
        scale = self.settings.graded_on
        results = self._results = GradeResults(f"grade of {scale} by {self.judge.name}")
        self._counts["empty answers, which get the lowest grade"] = 0
        answers = [self._answer(row) for row in rows]
        given = grades(self.judge, scale, answers)
        for row, answer, found in zip(rows, answers, given, strict=True):
            sitting = row["model"], row["shots"]
            results.add(sitting, row["parent_id"], found.grade, len(answer.text))
            self._counts["empty answers, which get the lowest grade"] += answer.is_blank
            replies = [] if found.reply is None else [found.reply]
            yield {**row, "judge_grade": found.grade, "judge_replies": replies}

    def _compared(self, rows: Sequence[Row]) -> Iterator[Row]:
        results = self._results = PairResults(f"pairs against {self.baseline} by {self.judge.name}")
        before = {_place(row): row for row in rows if row["model"] == self.baseline}
        others = [row for row in rows if row["model"] != self.baseline]
        pairs = [(self._answer(row), self._answer(before[_place(row)])) for row in others]
        self._counts["pairs without a verdict"] = 0
        verdicts: dict[str, Compared] = {}
        for row, (a, b), found in zip(others, pairs, comparisons(self.judge, pairs), strict=True):
            verdicts[row["id"]] = found
            outcome = _outcome(found)
            self._counts["pairs without a verdict"] += outcome is None
            results.add(
                (row["model"], row["shots"]),
                row["parent_id"],
                outcome,
                found.said,
                found.is_inconsistent,
                len(a.text) - len(b.text),
            )
        for row in rows:
            found = verdicts.get(row["id"], Compared(None))
            yield {
                **row,
                "judge_outcome": _outcome(found),
                "judge_replies": list(found.replies),
            }

    def _answer(self, row: Row) -> Answer:
        text = row["completion"] or ""
        shown = extract_answer(text, "text", row["finish_reason"] == "stop") or row["answer"] or ""
        item = self.items[row["parent_id"]]
        return Answer(row["id"], item, shown, split_thoughts(text)[1].strip())


def exam_judge(
    settings: JudgeSettings,
    context: Context,
    ask: Ask,
    items: Mapping[str, Mapping[str, Any]],
    variables: Mapping[str, Any],
    exam: str,
    models: Sequence[str],
) -> ExamJudge:
    """Make ready to judge: what people have judged is read, and nothing asked yet.

    Args:
        settings: Of the judge.
        context: The stage's.
        ask: As of `Judge`.
        items: As of `ExamJudge`.
        variables: The stage's constants.
        exam: The stage with the items.
        models: Those that take the exam.

    Raises:
        DataError: as `read_sample` does.
    """
    source = context.model(settings.model)
    for name in models:
        student = context.model(name)
        if replace(student, name="") == replace(source, name=""):
            context.warn(
                f"the judge '{settings.model}' is the model '{name}', whose answers it judges: "
                "models prefer their own"
            )
    template = load_template(settings.rubric)
    judge = Judge(
        name=settings.model,
        wanted="<winner>" if settings.is_pairwise else f"grade from {settings.graded_on}",
        template=template,
        sampling=settings.sampling,
        prompt_format=source.prompt_format,
        seed=context.seed,
        ask=ask,
        variables=variables,
    )
    sample = None
    if settings.labelled is not None:
        sample = read_sample(
            context.each_row(settings.labelled.rows),
            settings,
            items,
            template.variables.difference(settings.own_variables, variables),
            exam,
            context.warn,
        )
    return ExamJudge(settings, judge, items, sample, settings.baseline or models[0])


def _outcome(found: Compared) -> Outcome | None:
    return None if found.winner is None else OUTCOMES[found.winner]


def _place(row: Row) -> tuple[Any, ...]:
    return row["parent_id"], row["shots"], row["candidate_index"]
