"""Judge the answers of rows: shared by the stage `verify` and `verify:` of `generate`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.errors import DataError
from llm_distill.methods.answers import AnswerKind, judge
from llm_distill.methods.calculations import wrong_steps
from llm_distill.methods.math_answers import TOLERANCE
from llm_distill.methods.tool_answers import schema_problem
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import read_tools


class VerifySettings(BaseModel):
    """What is compared with what, and how."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer_column: str = Field("answer", description="what is checked; null counts as wrong")
    reference_column: str = Field("reference_answer", description="what counts as right")
    kind: AnswerKind = Field(
        "exact",
        description="exact text, a choice's letter, mathematics, free text or calls of tools, "
        "which must also fit the schemas in a column `tools`, if there is one",
    )
    tolerance: float = Field(
        TOLERANCE,
        ge=0,
        description="of math, relative: where one of two numbers cannot be written as a decimal",
        json_schema_extra={"later": True},  # as `later_setting` of stages does
    )
    drop_wrong: bool = Field(False, description="pass on right answers only")
    steps_column: str | None = Field(
        None,
        description="a rationale: also count its calculations (`3 + 4 = 7`) and the wrong ones",
        json_schema_extra={"later": True},
    )

    def verdict_columns(self) -> tuple[str, ...]:
        """What a row is given."""
        return ("is_correct", *(("step_errors", "n_steps") if self.steps_column else ()))

    def read_columns(self) -> set[str]:
        """What a row needs."""
        return {self.answer_column, self.reference_column, *filter(None, [self.steps_column])}

    def judged(
        self,
        rows: Iterable[Row],
        drop: Callable[[str], None],
        warn: Callable[[str], None],
        metrics: dict[str, Any],
    ) -> Iterator[Row]:
        """The rows with `is_correct`, and with `step_errors` and `n_steps` if asked for.

        The steps that are counted are those of all rows with a reference, also of dropped ones.

        Args:
            rows: each with an answer and a reference.
            drop: called with the reason for each row that is dropped.
            warn: called if there are references that cannot judge an answer.
            metrics: gets the accuracy and its counts after the last row.
        """
        right = total = unreadable = against_schema = 0
        unusable: list[str] = []
        steps = {True: [0, 0], False: [0, 0]}  # by `is_correct`: wrong ones, and all
        for row in rows:
            answer, reference = _text(row[self.answer_column]), _text(row[self.reference_column])
            if reference is None or judge(reference, reference, self.kind) is None:
                unusable.append(str(row["id"]))
                drop("unusable reference")
                continue
            verdict = judge(answer, reference, self.kind, self.tolerance)
            if self.kind == "tool_call" and row.get("error"):
                verdict = None  # which is no decision to call nothing
            if verdict and self.kind == "tool_call" and self._breaks_a_schema(row, answer):
                verdict, against_schema = False, against_schema + 1
            is_correct = verdict is True
            total += 1
            right += is_correct
            unreadable += verdict is None
            row = {**row, "is_correct": is_correct}
            if self.steps_column is not None:
                errors, n_steps = wrong_steps(_text(row[self.steps_column]) or "")
                row |= {"step_errors": errors, "n_steps": n_steps}
                steps[is_correct][0] += errors
                steps[is_correct][1] += n_steps
            if is_correct or not self.drop_wrong:
                yield row
            else:
                drop("no answer" if verdict is None else "wrong answer")
        if unusable:
            warn(
                f"{len(unusable)} rows have a '{self.reference_column}' that does not equal "
                f"itself as {self.kind}, the first of them '{unusable[0]}'; they are dropped"
            )
        counts = self.steps_column is not None
        metrics.update(
            n=total,
            accuracy=right / total if total else None,
            parse_failures=unreadable,
            unusable_references=len(unusable),
            **({"against_schema": against_schema} if self.kind == "tool_call" else {}),
            **({"wrong_steps": {"right": steps[True], "wrong": steps[False]}} if counts else {}),
        )

    def _breaks_a_schema(self, row: Row, answer: str | None) -> bool:
        try:
            tools = read_tools(row.get("tools"), "the row")
        except DataError:
            return True
        return bool(tools) and schema_problem(answer, tools) is not None


def _text(value: Any) -> str | None:
    """A number in the column, such as a class label, is compared as it is written."""
    return None if value is None else str(value)
