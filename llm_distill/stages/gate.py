"""Stop a run where a model is worse than another, exam by exam: ship it or do not.

in:  {"id": "t1-student-0-0", "parent_id": "t1", "model": "student", "shots": 0, "is_correct": true,
      "question": "2 + 2?", "reference_answer": "4", "error": null} and the same of `tailored`
out: {"id": "exam, 0-shot", "exam": "exam", "shots": 0, "model": "tailored", "than": "student",
      "accuracy": 0.8, "than_accuracy": 0.7, "difference": 0.1, "low": 0.02, "high": 0.18,
      "n_items": 400, "verdict": "better"}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError, GateError, counted, nearest
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.hints import hint
from llm_distill.methods.exam_pairs import Answered, Pair, Verdict, paired
from llm_distill.rows.columns import Row
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage

READ = ("id", "parent_id", "model", "shots", "is_correct", "error")
TYPES = {
    "id": "string", "exam": "string", "shots": "int64", "model": "string", "than": "string",
    "accuracy": "float64", "than_accuracy": "float64", "difference": "float64", "low": "float64",
    "high": "float64", "n_items": "int64", "verdict": "string",
}  # fmt: skip
ASKED = ("question", "messages", "choices", "reference_answer")
"""What makes an item the same item."""
Answers = dict[str, Answered]


class Gate(Stage):
    """Compares two models in each exam, item by item, and stops the run where one falls short.

    The difference in accuracy and its 95 % interval are those of `evaluate` (paired bootstrap over
    items). `verdict` is `worse` or `better` where the whole interval lies beyond ± `tolerance`, and
    `undecided` otherwise. With `require: not_worse` the run stops where it is `worse`, with
    `better` where it is not `better`; the exit code is 8 and the message has the figures. Both
    models must have answered the same items, without a failure of the engine.
    """

    stage: Literal["gate"]
    exams: list[Rows] = Field(min_length=1, description="`evaluate` stages that both models took")
    model: Model = Field(description="the model that is to pass")
    than: Model = Field(description="the model that it is compared with")
    require: Literal["not_worse", "better"] = Field(
        "not_worse",
        description="what has to hold in every exam: not_worse: it is not shown to be worse; "
        "better: it is shown to be better",
    )
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="differences up to this, as a share (0.01: 1 point), are none"
    )

    @model_validator(mode="after")
    def _compares_two(self) -> Self:
        if self.model == self.than:
            raise ValueError("than: a model is not compared with itself; name another")
        if len(set(self.exams)) < len(self.exams):
            raise ValueError("exams: each can be named once")
        return self

    def asks(self, place: str) -> None:
        return None

    def required_columns(self) -> dict[str, set[str]]:
        return {exam: {*READ} for exam in self.exams}

    def remedy(self, column: str) -> str | None:
        return "exams are stages `evaluate`" if column in READ else None

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(TYPES)

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        if self.model == self.than:  # the best and the last round may be one
            return self._with_itself(context)
        pairs: dict[tuple[str, int], Pair] = {}
        for exam in self.exams:
            for shots, answers in self._answers(context, exam).items():
                try:
                    pairs[exam, shots] = paired(answers)
                except ValueError as error:
                    raise DataError(
                        f"'{exam}', {shots}-shot: {error}; both must have answered all of it"
                    ) from error
        table = self._table(pairs)
        short = [place for place, pair in pairs.items() if not self._passes(pair)]
        if short:
            raise GateError(self._why(pairs, short))
        context.metrics.update(shown(table))
        rows = [self._row(*place, pair) for place, pair in pairs.items()]
        return RowsOutput(rows, Features({name: Value(kind) for name, kind in TYPES.items()}))

    def _with_itself(self, context: Context) -> RowsOutput:
        from datasets import Features, Value

        if self.require == "better":
            raise GateError(
                f"'{self.model}' does not pass: what it is compared with has come to be the same "
                "model, and it is not better than itself (require: better)"
            )
        context.warn(f"'{self.model}' is compared with itself, so nothing is: it is not worse")
        return RowsOutput([], Features({name: Value(kind) for name, kind in TYPES.items()}))

    def _answers(self, context: Context, exam: str) -> dict[int, dict[str, Answers]]:
        """By number of examples, of `model` and `than` what they answered by item.

        Raises:
            DataError: a model is not there, an engine failed, or answers are not right or wrong.
        """
        found: dict[int, dict[str, dict[str, list[Row]]]] = {}
        models, failed = set(), Counter[str]()
        for row in context.each_row(exam):
            models.add(row["model"])
            if row["model"] not in (self.model, self.than):
                continue
            failed[row["model"]] += row["error"] is not None
            if row["error"] is None and row["is_correct"] is None:
                raise DataError(
                    f"row {row['id']} of '{exam}' is neither right nor wrong (is_correct is null); "
                    "a gate compares accuracies, so its items need a reference_answer"
                )
            by_model = found.setdefault(row["shots"], {self.model: {}, self.than: {}})
            by_model[row["model"]].setdefault(row["parent_id"], []).append(row)
        for name in (self.model, self.than):
            if name not in models:
                raise DataError(f"'{name}' did not take '{exam}'; {nearest(name, models)}")
            if failed[name]:
                raise DataError(
                    f"'{exam}': the engine of '{name}' failed on {counted(failed[name], 'answer')},"
                    " which says nothing of the model; ask again "
                    f"({hint('run', '--retry-failed', of_file=True)}), or leave such items out"
                )
        return {
            shots: {
                name: {
                    item: Answered([row["is_correct"] for row in rows], _asked(rows[0]))
                    for item, rows in items.items()
                }
                for name, items in by_model.items()
            }
            for shots, by_model in sorted(found.items())
        }

    def _verdict(self, pair: Pair) -> Verdict:
        return pair.verdict(self.tolerance)

    def _passes(self, pair: Pair) -> bool:
        if self.require == "better":
            return self._verdict(pair) == "better"
        return self._verdict(pair) != "worse"

    def _row(self, exam: str, shots: int, pair: Pair) -> Row:
        return {
            "id": f"{exam}, {shots}-shot",
            "exam": exam,
            "shots": shots,
            "model": self.model,
            "than": self.than,
            "accuracy": pair.accuracy,
            "than_accuracy": pair.other,
            "difference": pair.difference.value,
            "low": pair.difference.low,
            "high": pair.difference.high,
            "n_items": pair.n,
            "verdict": self._verdict(pair),
        }

    def _table(self, pairs: Mapping[tuple[str, int], Pair]) -> FigureTable:
        figures: list[Figure] = []
        for (exam, shots), pair in pairs.items():
            of = {"exam": exam, "shots": str(shots), "verdict": self._verdict(pair)}
            found = pair.difference
            figures += [
                Figure({**of, "of": self.model}, pair.accuracy, kind="share"),
                Figure({**of, "of": self.than}, pair.other, kind="share"),
                Figure(
                    {**of, "of": "difference"}, found.value, found.low, found.high, pair.n, "points"
                ),
            ]
        return FigureTable(f"gate: {self.require}", tuple(figures), across="of")

    def _why(self, pairs: Mapping[tuple[str, int], Pair], short: list[tuple[str, int]]) -> str:
        wanted = "worse" if self.require == "not_worse" else "not shown to be better"
        by = f" by more than {100 * self.tolerance:.1f} points" if self.tolerance else ""
        lines = [
            f"'{self.model}' does not pass: it is {wanted}{by} than '{self.than}' in "
            f"{len(short)} of {counted(len(pairs), 'exam')} (require: {self.require})"
        ]
        for (exam, shots), pair in pairs.items():
            low, high = 100 * pair.difference.low, 100 * pair.difference.high
            lines.append(
                f"  {exam}, {shots}-shot: {pair.accuracy:.1%} against {pair.other:.1%}, "
                f"{100 * pair.difference.value:+.1f} points ({low:+.1f} to {high:+.1f}), "
                f"{pair.n:,} items: {self._verdict(pair)}"
                f"{'' if self._passes(pair) else ' — does not pass'}"
            )
        return "\n".join(lines)


def _asked(row: Row) -> str:
    return json.dumps({name: row.get(name) for name in ASKED}, default=repr)
