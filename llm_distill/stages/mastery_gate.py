"""Which skills to teach next: by their gap to the teacher, none before what it builds on.

in:  an exam's rows {"id": "v1-student-0-0", "parent_id": "v1", "task": "sums", "model": "student",
     "skills": ["division"], "is_correct": false}
out: {"id": "sums/division", "task": "sums", "skill": "division", "n": 15, "student_accuracy": 0.4,
      "teacher_accuracy": 1.0, "ratio": 0.4, "ratio_low": 0.2, "ratio_high": 0.66, "gap": 0.6,
      "severity": 0.3, "is_mastered": false, "is_open": true, "order": 2, "count": 9,
      "weight": 0.5, "question_ids": ["v1", …]}
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, counted, nearest
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.mastery import Counts, Mastery, mastery, missed, teaching_order
from llm_distill.methods.skills import canonical, skill_id
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage

FIGURES = (
    "student_accuracy", "teacher_accuracy", "ratio", "ratio_low", "ratio_high", "gap", "severity",
)  # fmt: skip
COLUMNS = {
    **{"id": "string", "task": "string", "skill": "string", "n": "int64"},
    **dict.fromkeys(FIGURES, "float64"),
    **{"is_mastered": "bool", "is_open": "bool", "order": "int64", "count": "int64"},
    **{"weight": "float64", "question_ids": "list"},
}
Item = tuple[str, Sequence[str], bool]
"""Id, skills, and whether the answer is right."""


class MasteryGate(Stage):
    """A profile of skills from an exam, in which only those that may be taught now have questions.

    A skill is mastered if the 95 % interval of P_student / P_teacher reaches 0.9 and the gap
    1 − P_student / P_teacher is at most 0.3 (IOA, arXiv 2602.12172; the interval is ours: on few
    items a ratio is noise). It is open if it is not mastered and all of its `prerequisites` are. An
    open skill has the questions that the student missed as `question_ids`, the others none, so that
    `select_by_skill` and `synthesise` teach what is open. A skill of which the teacher answers
    nothing rightly has no ratio: it is not taught, and nothing waits for it.

    Without open skills nothing is left to teach, or all that is left waits; both are said. Answers
    without a verdict say nothing about either model: they are dropped and counted.
    """

    version: ClassVar[int] = 2
    stage: Literal["mastery_gate"]
    rows: Rows = Field(description="an `evaluate` of the student, and of the teacher if named")
    student: Model = Field(description="the student, as the exam names it")
    teacher: Model | None = Field(
        None, description="the teacher, as the exam names it; null: as if it were always right"
    )
    prerequisites: dict[str, list[str]] = Field(
        {},
        description="by skill, the skills that it builds on, in each task that has both; others "
        "build on none",
    )
    gap_weight: float = Field(
        0.5,
        ge=0,
        le=1,
        description="α of severity = α · gap + (1 − α) · the share of skills that build on it",
    )

    @model_validator(mode="after")
    def _has_an_order(self) -> Self:
        named = self._prerequisites()
        teaching_order({*named, *(need for own in named.values() for need in own)}, named)
        return self

    def loads(self, place: str) -> bool:
        return False

    def asks(self, place: str) -> None:
        return None

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"parent_id", "model", "skills", "is_correct"}}

    def remedy(self, column: str) -> str | None:
        return "label_skills gives it to the exam's items" if column == "skills" else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, List, Value

        exams = self._exams(context)
        self._check_names({s for task in exams[self.student].values() for s in _counts(task)})
        rows: list[Row] = []
        for task, of_student in exams[self.student].items():
            teacher = None if self.teacher is None else _counts(exams[self.teacher].get(task, []))
            rows += self._skills(task, of_student, teacher)
        total = sum(row["severity"] for row in rows if row["is_open"])
        for row in rows:
            row["weight"] = row["severity"] / total if row["is_open"] and total else 0.0
        self._report(context, rows)
        types = {n: List(Value("string")) if t == "list" else Value(t) for n, t in COLUMNS.items()}
        return RowsOutput(rows, Features(types))

    def _prerequisites(self) -> dict[str, list[str]]:
        return {canonical(s): [*map(canonical, own)] for s, own in self.prerequisites.items()}

    def _check_names(self, known: set[str]) -> None:
        named = self._prerequisites()
        unknown = {*named, *(need for own in named.values() for need in own)} - known
        if unknown:
            raise DataError(
                f"prerequisites: no item needs {', '.join(sorted(unknown))}; write them as the "
                "exam's skills are"
            )

    def _exams(self, context: Context) -> dict[str, dict[str, list[Item]]]:
        """By model and task, its items."""
        found: dict[str, dict[str, list[Item]]] = defaultdict(lambda: defaultdict(list))
        seen: set[tuple[str, str]] = set()
        names: set[str] = set()
        there: Counter[str] = Counter()
        for row in context.each_row(self.rows):
            names.add(row["model"])
            if row["model"] not in (self.student, self.teacher):
                continue
            there[row["model"]] += 1
            if row.get("error"):
                context.drop("an error upstream")
                continue
            if row["is_correct"] is None:
                context.drop("is_correct is null")
                continue
            key = row["model"], row["parent_id"]
            if key in seen:
                raise DataError(
                    f"'{row['model']}' has two answers to item {row['parent_id']} in "
                    f"'{self.rows}'; take an exam with one number of shots and one sample"
                )
            seen.add(key)
            skills = [*dict.fromkeys(map(canonical, row["skills"] or ()))]
            item = row["parent_id"], skills, row["is_correct"]
            found[row["model"]][task_of(row)].append(item)
        for name in filter(None, (self.student, self.teacher)):
            if there[name] and name not in found:
                raise DataError(
                    f"none of {counted(there[name], 'answer')} of '{name}' in '{self.rows}' has a "
                    "verdict (is_correct), or each has an error; the items need a reference_answer"
                )
            if name not in found:
                raise DataError(f"'{self.rows}' has no answers of '{name}'; {nearest(name, names)}")
        return found

    def _skills(
        self, task: str, items: Sequence[Item], teacher: Mapping[str, Counts] | None
    ) -> list[Row]:
        student = _counts(items)
        if teacher is not None:
            without = sorted(student.keys() - teacher.keys())
            if without:
                raise DataError(f"'{self.teacher}' has no item of {', '.join(without)}")
        there = {
            skill: [need for need in own if need in student]
            for skill, own in self._prerequisites().items()
            if skill in student
        }
        found = mastery(student, teacher, there, self.gap_weight)
        wrong = missed(items)
        rows = []
        for each in found:
            ids = wrong[each.skill] if each.is_open else []
            right = None if teacher is None else teacher[each.skill].accuracy
            ends = each.ratio
            rows.append(
                {
                    "id": skill_id(task, each.skill),
                    "task": task or None,
                    "skill": each.skill,
                    "n": student[each.skill].n,
                    "student_accuracy": student[each.skill].accuracy,
                    "teacher_accuracy": right,
                    "ratio": None if ends is None else ends.value,
                    "ratio_low": None if ends is None else ends.low,
                    "ratio_high": None if ends is None else ends.high,
                    **_plain(each),
                    "count": len(ids),
                    "question_ids": ids,
                }
            )
        return rows

    def _report(self, context: Context, rows: Sequence[Row]) -> None:
        opened = [row["skill"] for row in rows if row["is_open"]]
        waiting = [r["skill"] for r in rows if r["is_mastered"] is False and not r["is_open"]]
        alone = [row["skill"] for row in rows if row["is_mastered"] is None]
        figures = tuple(
            Figure({"skill": row["id"], "next": _state(row)}, row["ratio"], row["ratio_low"],
                   row["ratio_high"], row["n"])
            for row in rows
            if row["ratio"] is not None
        )  # fmt: skip
        context.metrics.update(
            open=opened,
            waiting=waiting,
            teacher_cannot=alone,
            **shown(FigureTable("student's accuracy / teacher's", figures)),
        )
        if alone:
            context.warn(f"'{self.teacher}' answers nothing of {', '.join(alone)}: not taught")
        if not opened:
            context.warn("no skill is open: the student has mastered all that can be taught")


def _counts(items: Sequence[Item]) -> dict[str, Counts]:
    right: dict[str, list[bool]] = defaultdict(list)
    for _, skills, is_correct in items:
        for skill in skills:
            right[skill].append(is_correct)
    return {skill: Counts(sum(own), len(own)) for skill, own in right.items()}


def _plain(found: Mastery) -> dict[str, Any]:
    names = ("gap", "severity", "is_mastered", "is_open", "order")
    return {name: getattr(found, name) for name in names}


def _state(row: Row) -> str:
    if row["is_open"]:
        return "teach"
    return "mastered" if row["is_mastered"] else "waits"
