"""Replace the right solutions of a share of the questions with wrong ones, at the same size.

in:  {"id": "q1", "question": "What is 3 + 4 + 2?", "reference_answer": "9",
      "rationale": "3 + 4 = 7. 7 + 2 = 9. <ans>9</ans>"}
out: {"id": "q1", "question": "What is 3 + 4 + 2?", "reference_answer": "9",
      "rationale": "3 + 4 = 8. 8 + 2 = 10. <ans>10</ans>", "is_correct": False,
      "step_errors": 1, "n_steps": 2}

with errors: sampled, two or more solutions of a question, of which one is kept
in:  {"id": "q1-0", "parent_id": "q1", "rationale": "…", "is_correct": True}, {"id": "q1-1", …}
out: {"id": "q1", "parent_id": "q1", "rationale": "…", "is_correct": False, …}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.methods.calculations import calculations, wrong_steps
from llm_distill.methods.corruption import corrupted, replaced, steps_each, swapped
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row
from llm_distill.stage import Context, Rows, RowsOutput, Stage, later_setting


class Corrupt(Stage):
    """Makes supervision wrong by a known amount: `rate` of the rows get a wrong solution.

    The rows are the same at any rate, and what is wrong at one rate is, with the same seed, wrong
    in the same way at a higher one. A question without a wrong solution is left out at any rate.

    `what: outcome` is as little wrong as can be: the final answer, and no step. `what: step`
    is as much: `step_rate` of the steps, that is of the equations of numbers in the text, and
    the answer. With `errors: sampled` the wrong solution is one of those that a model wrote, of
    several the one with the smallest or the largest share of wrong steps. `random` and `one_more`
    change the numbers of right ones. With `errors: swapped` it is the right solution of another
    question with another answer: right style, and nothing about the question. At `rate: 1` each
    solution is there once.
    """

    added_columns = ("is_correct", "step_errors", "n_steps")
    always_seeded = True
    rows_may_be_empty = True

    stage: Literal["corrupt"]
    rows: Rows = Field(description="the stage whose rows are solutions")
    rate: float = Field(ge=0, le=1, description="share of the rows that are wrong")
    what: Literal["outcome", "step"] = Field(
        "outcome", description="what is wrong in them: the final answer alone, or steps too"
    )
    errors: Literal["sampled", "random", "one_more", "swapped"] = Field(
        "random",
        description="sampled: a wrong solution (`is_correct`) to the same `parent_id`; random: any "
        "other number; one_more: always one too many; swapped: the solution of another question",
    )
    within: str | None = later_setting(
        None,
        "with swapped: a column such as skills; solutions are swapped between rows with the same",
    )
    step_rate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="with what: step, the share of the steps of wrong rows that are wrong, in each "
        "row at least one",
    )
    solution_column: str = Field("rationale", description="the column with the solution")
    gold_column: str | None = Field(
        None,
        description="with sampled: a right solution, for questions to which there is none among "
        "those that were sampled",
    )
    length_ratio: tuple[float, float] | None = Field(
        None,
        description="with sampled: solutions are left out that are shorter or longer than the gold "
        "one by more than this, such as [0.5, 1.5]",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        is_set = self.model_fields_set
        if self.errors == "sampled" and "step_rate" in is_set:
            raise ValueError("step_rate: with errors: sampled the steps are as they were written")
        if self.errors == "swapped" and is_set & {"what", "step_rate"}:
            raise ValueError("what and step_rate: with errors: swapped the whole solution is wrong")
        if self.within is not None and self.errors != "swapped":
            raise ValueError("within goes with errors: swapped")
        if self.what == "outcome" and "step_rate" in is_set:
            raise ValueError("step_rate goes with what: step")
        if self.errors != "sampled" and (self.gold_column or self.length_ratio):
            raise ValueError("gold_column and length_ratio go with errors: sampled")
        if self.length_ratio is not None and self.gold_column is None:
            raise ValueError("length_ratio needs gold_column, which it is measured by")
        if self.length_ratio is not None and not 0 <= self.length_ratio[0] < self.length_ratio[1]:
            raise ValueError("length_ratio: the shortest and the longest, such as [0.5, 1.5]")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        needed = {"id", self.solution_column}
        if self.errors == "sampled":
            needed |= {"parent_id", "is_correct", *filter(None, [self.gold_column])}
        else:
            needed |= {"reference_answer", *filter(None, [self.within])}
        return {self.rows: needed}

    def read_as_text(self) -> dict[str, set[str]]:
        return {self.rows: {self.solution_column, *filter(None, [self.gold_column])}}

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        return rows[self.rows]

    def run(self, context: Context) -> RowsOutput:
        make = {"sampled": self._sampled, "swapped": self._swapped}.get(self.errors, self._changed)
        return RowsOutput(self._counted(make(context), context), self.output_features(context))

    def _counted(self, rows: Iterator[Row], context: Context) -> Iterator[Row]:
        n = wrong = steps = wrong_of_steps = 0
        for row in rows:
            errors, n_steps = wrong_steps(row[self.solution_column])
            n, wrong = n + 1, wrong + (not row["is_correct"])
            steps, wrong_of_steps = steps + n_steps, wrong_of_steps + errors
            yield {**row, "step_errors": errors, "n_steps": n_steps}
        if not n:
            return
        figures = [Figure({"wrong": "answers"}, wrong / n, n=n, kind="share")]
        if steps:
            share = wrong_of_steps / steps
            figures.append(Figure({"wrong": "steps"}, share, n=steps, kind="share"))
        context.metrics.update(
            shown(FigureTable("how much of the supervision is wrong", (*figures,)))
        )

    # --- errors in the numbers of right solutions ---

    def _changed(self, context: Context) -> Iterator[Row]:
        n_steps: dict[str, int] = {}
        for row in self.each_row(context):
            n = len(calculations(str(row[self.solution_column] or "")))
            # All that it could get at some rate, so that whether it is left out depends on none.
            ways = (0,) if self.what == "outcome" else range(1, n + 1)
            if ways and all(self._corrupted(row, way, context.seed) for way in ways):
                n_steps[row["id"]] = n
            else:
                context.drop("no wrong solution can be made of it")
        taken = {row: n_steps[row] for row in replaced([*n_steps], self.rate, context.seed)}
        wrong = (
            dict.fromkeys(taken, 0) if self.what == "outcome" else steps_each(taken, self.step_rate)
        )
        for row in context.each_row(self.rows):
            if row["id"] in wrong:
                found = self._corrupted(row, wrong[row["id"]], context.seed)
                assert found is not None
                solution, answer = found
                answered = {"answer": answer} if "answer" in row else {}
                yield {**row, self.solution_column: solution, **answered, "is_correct": False}
            elif row["id"] in n_steps:
                yield {**row, "is_correct": True}

    def _corrupted(self, row: Row, n_steps: int, seed: int) -> tuple[str, str] | None:
        solution, answer = row[self.solution_column], str(row["reference_answer"]).strip()
        drawn_by = derive_seed(seed, "corrupt", row["id"], "errors")
        is_random = self.errors == "random"
        return corrupted(str(solution or ""), answer, n_steps, is_random, drawn_by)

    # --- solutions of other questions ---

    def _swapped(self, context: Context) -> Iterator[Row]:
        rows = context.rows(self.rows)
        places: dict[str, int] = {}
        found: dict[str, tuple[str, str]] = {}
        for index, row in enumerate(self.each_row(context)):
            answer = str(row["reference_answer"] or "").strip()
            form = row[self.within] if self.within is not None else ""
            if answer and form is not None and str(row[self.solution_column] or "").strip():
                places[row["id"]], found[row["id"]] = index, (str(form), answer)
        of = swapped(found, derive_seed(context.seed, "corrupt", "swapped"))
        context.drop("no other question's solution can be had for it", len(rows) - len(of))
        wrong = {*replaced([*of], self.rate, context.seed)}
        for row in context.each_row(self.rows):
            if row["id"] in wrong:
                other = rows[places[of[row["id"]]]]
                answered = {"answer": other["reference_answer"]} if "answer" in row else {}
                solution = {self.solution_column: other[self.solution_column]}
                yield {**row, **solution, **answered, "is_correct": False}
            elif row["id"] in of:
                yield {**row, "is_correct": True}

    # --- solutions that a model wrote ---

    def _sampled(self, context: Context) -> Iterator[Row]:
        rows = context.rows(self.rows)
        pairs = self._pairs(context)
        wrong = {*replaced([*pairs], self.rate, context.seed)}
        for question, (right, other) in pairs.items():
            row = rows[other if question in wrong else (other if right is None else right)]
            row = {**row, "id": question, "is_correct": question not in wrong}
            if right is None and question not in wrong:
                row[self.solution_column] = row[self.gold_column or ""]
                if "answer" in row:  # of the wrong one
                    row["answer"] = row.get("reference_answer")
            yield row

    def _pairs(self, context: Context) -> dict[str, tuple[int | None, int]]:
        """By question the places of a right and a wrong solution; None: gold stands in."""
        right: dict[str, int] = {}
        wrong: dict[str, tuple[float, int]] = {}
        questions: dict[str, bool] = {}  # whether there is a gold solution
        sign = 1 if self.what == "outcome" else -1
        for index, row in enumerate(self.each_row(context)):
            question = row["parent_id"]
            if question is None:
                raise DataError(f"row {row['id']} of '{self.rows}' has no parent_id, its question")
            questions[question] = self.gold_column is not None and bool(row[self.gold_column])
            solution = row[self.solution_column]
            if row["is_correct"] is None or not solution:
                context.drop("no solution, or none that was judged")
            elif not self._is_of_its_length(row):
                context.drop("shorter or longer than length_ratio")
            elif row["is_correct"]:
                right.setdefault(question, index)
            else:
                errors, n_steps = wrong_steps(solution)
                found = sign * errors / max(1, n_steps), index
                wrong[question] = min(wrong.get(question, found), found)
        pairs: dict[str, tuple[int | None, int]] = {}
        for question, has_gold in questions.items():
            if question not in wrong:
                context.drop("a question without a wrong solution")
            elif question not in right and not has_gold:
                context.drop("a question without a right solution")
            else:
                pairs[question] = right.get(question), wrong[question][1]
        return pairs

    def _is_of_its_length(self, row: Row) -> bool:
        if self.length_ratio is None or self.gold_column is None:
            return True
        shortest, longest = self.length_ratio
        ratio = len(row[self.solution_column]) / max(1, len(row[self.gold_column] or ""))
        return shortest <= ratio <= longest
