"""Stop a run where a model is worse than another, exam by exam: ship it or do not.

in:  {"id": "t1-student-0-0", "parent_id": "t1", "model": "student", "shots": 0, "is_correct": true,
      "question": "2 + 2?", "reference_answer": "4", "error": null} and the same of `tailored`;
     or rows of evaluate_lm_eval, with "task" and "filter" and without "error"; or those of
     classification_report, whose "model" is the stage that gave the labels
out: {"id": "exam, 0-shot", "exam": "exam", "shots": 0, "model": "tailored", "than": "student",
      "accuracy": 0.8, "than_accuracy": 0.7, "difference": 0.1, "low": 0.02, "high": 0.18,
      "n_items": 400, "verdict": "better"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, GateError, counted, nearest
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.hints import hint
from llm_distill.methods.exam_pairs import Answered, Pair, Verdict, paired
from llm_distill.rows.columns import Row
from llm_distill.stage import (
    Columns,
    Context,
    Model,
    Rows,
    RowsOutput,
    Stage,
    Values,
    later_setting,
)

READ = ("id", "parent_id", "model", "shots", "is_correct")
TYPES = {
    "id": "string", "exam": "string", "shots": "int64", "model": "string", "than": "string",
    "accuracy": "float64", "than_accuracy": "float64", "difference": "float64", "low": "float64",
    "high": "float64", "n_items": "int64", "verdict": "string",
}  # fmt: skip
Kind = Literal["answers", "harness", "labels"]
"""Whose rows an exam has: evaluate's, evaluate_lm_eval's, classification_report's."""
ASKED: Mapping[Kind, tuple[str, ...]] = {
    "answers": ("question", "messages", "choices", "reference_answer"),
    # Each model's own chat template is in the prompt, and a task's items are numbered.
    "harness": ("choices", "reference_answer"),
    # A classifier lists its classes as `choices`, in its own order; people list none.
    "labels": ("reference_answer",),
}
"""What makes an item the same item."""
NEEDED: Mapping[Kind, str] = {
    "answers": "so its items need a reference_answer",
    "harness": "so its tasks need exact_match or acc",
    "labels": "so its items need a right label",
}
Answers = dict[str, Answered]
Names = tuple[str, str]
"""Who is to pass, and with whom it is compared."""
Part = tuple[str, int | None]
"""What is compared by itself: an exam, or a task of it, and the number of examples."""


class Gate(Stage):
    """Compares two models in each exam, item by item, and stops the run where one falls short.

    The difference in accuracy and its 95 % interval are those of `evaluate` (paired bootstrap over
    items). `verdict` is `worse` or `better` where the whole interval lies beyond ± `tolerance`, and
    `undecided` otherwise. With `require: not_worse` the run stops where it is `worse`, with
    `better` where it is not `better`; the exit code is 8 and the message has the figures. Both
    models must have answered the same items, without a failure of the engine. Each task of
    `evaluate_lm_eval`, and each of its filters, is a comparison of its own. A
    `classification_report` is of stages: there `labels` is compared with `than_labels`.
    """

    stage: Literal["gate"]
    exams: list[Rows] = Field(
        min_length=1,
        description="stages `evaluate`, `evaluate_lm_eval` or `classification_report` that both "
        "took",
    )
    model: Model | None = Field(None, description="the model that is to pass")
    than: Model | None = Field(None, description="the model that it is compared with")
    require: Literal["not_worse", "better"] = Field(
        "not_worse",
        description="what has to hold in every exam: not_worse: it is not shown to be worse; "
        "better: it is shown to be better",
    )
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="differences up to this, as a share (0.01: 1 point), are none"
    )
    labels: Rows | None = later_setting(
        None, "in a classification_report: the stage whose labels are to pass, such as a classify"
    )
    than_labels: Rows | None = later_setting(
        None, "in a classification_report: the stage whose labels they are compared with"
    )

    @model_validator(mode="after")
    def _compares_two(self) -> Self:
        pairs = (
            {"model": self.model, "than": self.than},
            {
                "labels": self.labels,
                "than_labels": self.than_labels,
            },
        )
        for names in pairs:
            (first, ours), (second, theirs) = names.items()
            if (ours is None) != (theirs is None):
                given, left = (second, first) if ours is None else (first, second)
                raise ValueError(f"{given}: compared with what? set {left} too")
            if ours is not None and ours == theirs:
                what = "a model is not compared with itself"
                if first == "labels":
                    what = "labels are not compared with themselves"
                raise ValueError(f"{second}: {what}; name another")
        if self.model is None and self.labels is None:
            raise ValueError(
                "name what is compared: model and than, or in a classification_report labels and "
                "than_labels"
            )
        if len(set(self.exams)) < len(self.exams):
            raise ValueError("exams: each can be named once")
        return self

    def asks(self, place: str) -> None:
        return None

    def required_columns(self) -> dict[str, set[str]]:
        return {exam: {*READ} for exam in self.exams}

    def remedy(self, column: str) -> str | None:
        if column not in READ:
            return None
        return "exams are stages `evaluate`, `evaluate_lm_eval` or `classification_report`"

    def misfits(self, inputs: Mapping[str, Values]) -> Iterator[tuple[str, str]]:
        """Who took an exam is known before it is held."""
        known = {exam: inputs.get(exam, {}).get("model") for exam in self.exams}
        for place in ("model", "than", "labels", "than_labels"):
            name = getattr(self, place)
            of = [took for took in known.values() if took is not None]
            if name is not None and len(of) == len(known) and not any(name in took for took in of):
                yield place, f"'{name}' took none of the exams; {nearest(name, set().union(*of))}"

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(TYPES)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        pairs: dict[Part, tuple[Names, Pair]] = {}
        for exam in self.exams:
            kind = _kind(context.rows(exam).features)
            names = self._names(exam, kind)
            if names[0] == names[1]:  # the best and the last round may be one
                self._with_itself(context, names[0], exam)
                continue
            for part, answers in self._answers(context, exam, kind, names).items():
                try:
                    pairs[part] = names, paired(answers)
                except ValueError as error:
                    raise DataError(
                        f"{_named(part)}: {error}; both must have answered all of it"
                    ) from error
        short = [part for part, (_, pair) in pairs.items() if not self._passes(pair)]
        if short:
            raise GateError(self._why(pairs, short))
        if pairs:
            context.metrics.update(shown(self._table(pairs)))
        rows = [self._row(part, *found) for part, found in pairs.items()]
        return RowsOutput(rows, Features({name: Value(kind) for name, kind in TYPES.items()}))

    def _names(self, exam: str, kind: Kind) -> Names:
        """Who is compared in an exam.

        Raises:
            DataError: it is an exam of stages, and models are named, or the other way round.
        """
        if kind == "labels":
            if self.labels is None or self.than_labels is None:
                raise DataError(
                    f"the rows of '{exam}' are of stages that gave labels, as those of a "
                    "classification_report; name the two stages: labels and than_labels"
                )
            return self.labels, self.than_labels
        if self.model is None or self.than is None:
            raise DataError(f"the rows of '{exam}' are answers of models; name two: model and than")
        return self.model, self.than

    def _with_itself(self, context: Context, name: str, exam: str) -> None:
        if self.require == "better":
            raise GateError(
                f"'{name}' does not pass '{exam}': what it is compared with has come to be the "
                "same, and it is not better than itself (require: better)"
            )
        context.warn(f"'{exam}': '{name}' is compared with itself, so nothing is: it is not worse")

    def _answers(
        self, context: Context, exam: str, kind: Kind, names: Names
    ) -> dict[Part, dict[str, Answers]]:
        """By part of the exam, of both what they answered by item.

        Raises:
            DataError: one is not there, an engine failed, or answers are not right or wrong.
        """
        found: dict[Part, dict[str, dict[str, list[Row]]]] = {}
        took, failed = set(), Counter[str]()
        for row in context.each_row(exam):
            name = row["model"]
            took.add(name)
            if name not in names:
                continue
            has_failed = row.get("error") is not None
            failed[name] += has_failed
            if not has_failed and row["is_correct"] is None:
                raise DataError(
                    f"row {row['id']} of '{exam}' is neither right nor wrong (is_correct is null); "
                    f"a gate compares accuracies, {NEEDED[kind]}"
                )
            of_part = found.setdefault(_part(exam, kind, row), {each: {} for each in names})
            of_part[name].setdefault(row["parent_id"], []).append(row)
        for name in names:
            if name not in took:
                raise DataError(f"'{name}' did not take '{exam}'; {nearest(name, took)}")
            if failed[name]:
                raise DataError(
                    f"'{exam}': the engine of '{name}' failed on {counted(failed[name], 'answer')},"
                    " which says nothing of the model; ask again "
                    f"({hint('run', '--retry-failed', of_file=True)}), or leave such items out"
                )
        return {
            part: {
                name: {
                    item: Answered([row["is_correct"] for row in rows], _asked(kind, rows[0]))
                    for item, rows in items.items()
                }
                for name, items in of_part.items()
            }
            for part, of_part in sorted(found.items(), key=lambda each: _order(each[0]))
        }

    def _verdict(self, pair: Pair) -> Verdict:
        return pair.verdict(self.tolerance)

    def _passes(self, pair: Pair) -> bool:
        if self.require == "better":
            return self._verdict(pair) == "better"
        return self._verdict(pair) != "worse"

    def _row(self, part: Part, names: Names, pair: Pair) -> Row:
        exam, shots = part
        return {
            "id": _titled(part),
            "exam": exam,
            "shots": shots,
            "model": names[0],
            "than": names[1],
            "accuracy": pair.accuracy,
            "than_accuracy": pair.other,
            "difference": pair.difference.value,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "n_items": pair.n,
            "verdict": self._verdict(pair),
        }

    def _table(self, pairs: Mapping[Part, tuple[Names, Pair]]) -> FigureTable:
        figures: list[Figure] = []
        for (exam, shots), (names, pair) in pairs.items():
            of = {
                "exam": exam,
                "shots": "" if shots is None else str(shots),
                "verdict": self._verdict(pair),
            }
            found = pair.difference
            figures += [
                Figure({**of, "of": names[0]}, pair.accuracy, kind="share"),
                Figure({**of, "of": names[1]}, pair.other, kind="share"),
                Figure(
                    {**of, "of": "difference"}, found.value, found.low, found.high, pair.n, "points"
                ),
            ]
        return FigureTable(f"gate: {self.require}", tuple(figures), across="of")

    def _why(self, pairs: Mapping[Part, tuple[Names, Pair]], short: list[Part]) -> str:
        wanted = "worse" if self.require == "not_worse" else "not shown to be better"
        by = f" by more than {100 * self.tolerance:.1f} points" if self.tolerance else ""
        ours, theirs = pairs[short[0]][0]
        lines = [
            f"'{ours}' does not pass: it is {wanted}{by} than '{theirs}' in "
            f"{len(short)} of {counted(len(pairs), 'exam')} (require: {self.require})"
        ]
        for part, (names, pair) in pairs.items():
            low, high = 100 * pair.difference.low, 100 * pair.difference.high
            others = "" if names == (ours, theirs) else f" ('{names[0]}' and '{names[1]}')"
            lines.append(
                f"  {_titled(part)}{others}: {pair.accuracy:.1%} against {pair.other:.1%}, "
                f"{100 * pair.difference.value:+.1f} points ({low:+.1f} to {high:+.1f}), "
                f"{pair.n:,} items: {self._verdict(pair)}"
                f"{'' if self._passes(pair) else ' — does not pass'}"
            )
        return "\n".join(lines)


def _kind(columns: Any) -> Kind:
    if "error" in columns:
        return "answers"
    return "harness" if "filter" in columns else "labels"


def _part(exam: str, kind: Kind, row: Row) -> Part:
    """A task of the harness is an exam of its own, and so are its answers through each filter."""
    if kind != "harness":
        return exam, row["shots"]
    name = "" if row["filter"] == "none" else f" ({row['filter']})"
    return f"{exam}/{row['task']}{name}", row["shots"]


def _order(part: Part) -> tuple[str, int]:
    exam, shots = part
    return exam, -1 if shots is None else shots


def _titled(part: Part) -> str:
    exam, shots = part
    return exam if shots is None else f"{exam}, {shots}-shot"


def _named(part: Part) -> str:
    exam, shots = part
    return f"'{exam}'" if shots is None else f"'{exam}', {shots}-shot"


def _asked(kind: Kind, row: Row) -> str:
    return json.dumps({name: row.get(name) for name in ASKED[kind]}, default=repr)
