"""Generalisation against fidelity: how far students are better than their teacher, and how like it.

in:  {"id": "n1-teacher", "parent_id": "n1", "model": "teacher", "shots": 0, "answer": "sports",
      "reference_answer": "arts", "is_correct": false} and the same of "student", as `evaluate` and
      `classification_report` give them
out: {"id": "n1-student-0", "parent_id": "n1", "model": "student", "shots": 0, "answer": "sports",
      "reference_answer": "arts", "is_correct": false, "teacher_answer": "sports",
      "teacher_is_correct": false, "agrees": true}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, nearest, quoted
from llm_distill.evaluation.fidelity_figures import fidelity_table
from llm_distill.evaluation.results import shown
from llm_distill.methods.answers import AnswerKind, answers_equal
from llm_distill.methods.fidelity import Measure, Said, fidelity
from llm_distill.methods.regression_loyalty import as_number, regression_loyalty
from llm_distill.rows.columns import Row, features
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage, later_setting

NEEDED = ("parent_id", "model", "shots", "answer", "is_correct")
COLUMNS = (
    "id", "parent_id", "model", "shots", "answer", "reference_answer", "is_correct",
    "teacher_answer", "teacher_is_correct", "agrees",
)  # fmt: skip
Exam = dict[int, dict[str, dict[str, Row]]]
"""By number of worked examples, model and item, the row."""
Pair = tuple[Row, Row, str | None]
"""The teacher's row of an item, a student's, and the student's answer: in the teacher's spelling
where it is the same."""


class Fidelity(Stage):
    """Compares the answers of students with those of their teacher, item by item, in one exam.

    Of each student its accuracy and how far it is above the teacher's, the share of equal answers
    (label loyalty) and Cohen's kappa, the same share where the teacher is wrong (mistakes that it
    has taken over) and where it is right, and, with probabilities, probability loyalty (1 − √JSD,
    base 2), with 95 % intervals over items. The report draws the gain against the agreement.
    Items on which a model failed are left out for all.

    With `numbers` answers are grades or scores: the correlation of the student's with the teacher's
    (regression loyalty), the share of the teacher's variance that it explains (1 − squared error /
    variance), its mean error and bias stand beside these, or alone where the exam has no right
    answers. Items that a side gave no number are left out of them, and counted.
    """

    stage: Literal["fidelity"]
    rows: Rows = Field(
        description="an exam that teacher and students took: evaluate, or classification_report"
    )
    teacher: str = Field(
        min_length=1, description="the teacher, as the column `model` of the exam names it"
    )
    students: list[str] = Field([], description="the students; empty: all other models of the exam")
    answer_kind: AnswerKind = Field("exact", description="when two answers are the same")
    numbers: bool = later_setting(
        False, "answers are numbers, such as grades: also how near the student's are"
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len({self.teacher, *self.students}) < 1 + len(self.students):
            raise ValueError("students: each can be named once, and not the teacher")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", *NEEDED}}

    def remedy(self, column: str) -> str | None:
        return "evaluate and classification_report give it" if column in NEEDED else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def run(self, context: Context) -> RowsOutput:
        return RowsOutput(self._rows(context), features(COLUMNS))

    def _rows(self, context: Context) -> Iterator[Row]:
        found: dict[tuple[str, int], dict[str, Measure]] = {}
        for shots, answers in sorted(self._read(context).items()):
            taught = answers.pop(self.teacher, None)
            if taught is None:
                raise DataError(
                    f"'{self.rows}': '{self.teacher}' has no rows with shots: {shots}, which "
                    f"{', '.join(answers)} has"
                )
            for name, own in answers.items():
                items = self._same_items(taught, own, name)
                pairs = [self._pair(taught[item], own[item]) for item in items]
                found[name, shots] = self._measured(context, name, pairs)
                yield from (self._row(name, *pair) for pair in pairs)
        context.metrics.update(shown(fidelity_table(self.teacher, found)))

    def _measured(self, context: Context, name: str, pairs: Sequence[Pair]) -> dict[str, Measure]:
        near = self._numbers(context, name, pairs) if self.numbers else {}
        if any(row["is_correct"] is None for pair in pairs for row in pair[:2]):
            return near  # without numbers these are refused
        said = [
            (_said(taught, taught["answer"]), _said(own, answer)) for taught, own, answer in pairs
        ]
        try:
            return fidelity([t for t, _ in said], [s for _, s in said]) | near
        except ValueError as error:
            raise DataError(f"'{self.rows}', {self.teacher} and {name}: {error}") from error

    def _numbers(self, context: Context, name: str, pairs: Sequence[Pair]) -> dict[str, Measure]:
        read = [(as_number(t["answer"]), as_number(s["answer"])) for t, s, _ in pairs]
        both = [(t, s) for t, s in read if t is not None and s is not None]
        if not both:
            example = next((str(t["answer"]) for t, _, _ in pairs), "")
            raise DataError(
                f"'{self.rows}', {self.teacher} and {name}: no item has numbers of both (an answer "
                f"is {quoted(example)}); leave numbers out for labels and texts"
            )
        context.drop(f"no number of both {self.teacher} and {name}", len(read) - len(both))
        found = regression_loyalty([t for t, _ in both], [s for _, s in both])
        return {of: Measure(estimate, len(both)) for of, estimate in found.items()}

    def _pair(self, taught: Row, own: Row) -> Pair:
        answer: str | None = own["answer"]
        same = taught["answer"] is not None and answers_equal(
            answer, taught["answer"], self.answer_kind
        )
        return taught, own, taught["answer"] if same else answer

    def _row(self, name: str, taught: Row, own: Row, answer: str | None) -> Row:
        both = taught["answer"] is not None and own["answer"] is not None
        return {
            "id": f"{own['parent_id']}-{name}-{own['shots']}",
            "parent_id": own["parent_id"],
            "model": name,
            "shots": own["shots"],
            "answer": own["answer"],
            "reference_answer": own.get("reference_answer"),
            "is_correct": own["is_correct"],
            "teacher_answer": taught["answer"],
            "teacher_is_correct": taught["is_correct"],
            "agrees": answer == taught["answer"] if both else None,
        }

    # --- the exam ---

    def _read(self, context: Context) -> Exam:
        """Raises DataError: a model is not there, answers twice, or is neither right nor wrong."""
        exam: Exam = {}
        models, failed = set(), set()
        for row in context.each_row(self.rows):
            name, item = row["model"], row["parent_id"]
            models.add(name)
            if name != self.teacher and self.students and name not in self.students:
                continue
            if row.get("error") is not None:
                failed.add(item)
                continue
            if row["is_correct"] is None and not self.numbers:
                raise DataError(
                    f"row {row['id']} of '{self.rows}' is neither right nor wrong (is_correct is "
                    "null): the exam's items need a reference_answer, or numbers: true"
                )
            own = exam.setdefault(row["shots"], {}).setdefault(name, {})
            if item in own:
                raise DataError(
                    f"'{name}' has several answers to item {item} of '{self.rows}'; students and "
                    "teacher are compared by one answer each (samples: 1)"
                )
            own[item] = row
        for name in (self.teacher, *self.students):
            if name not in models:
                raise DataError(f"'{name}' did not take '{self.rows}'; {nearest(name, models)}")
        if models == {self.teacher}:
            raise DataError(f"'{self.rows}' has rows of '{self.teacher}' alone: no student")
        context.drop("a model failed on the item", len(failed))
        for answers in exam.values():
            for own in answers.values():
                for item in failed & own.keys():
                    del own[item]
        return exam

    def _same_items(
        self, taught: Mapping[str, Row], own: Mapping[str, Row], name: str
    ) -> list[str]:
        different = taught.keys() ^ own.keys()
        if different:
            item = min(different)
            who, lacks = (name, self.teacher) if item in own else (self.teacher, name)
            raise DataError(
                f"'{self.rows}': '{who}' answered item {item}, and '{lacks}' did not "
                f"({len(different)} such items); they are compared on the same ones"
            )
        if not taught:
            raise DataError(f"'{self.rows}': no item was answered by all models")
        return list(taught)


def _said(row: Row, answer: str | None) -> Said:
    choices: Any = row.get("choices")
    probabilities: Any = row.get("probabilities")
    known = choices is not None and probabilities is not None
    by_name = dict(zip(choices, probabilities, strict=True)) if known else None
    return Said(answer, row["is_correct"], by_name)
