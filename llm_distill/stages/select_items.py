"""Keep the exam items that tell examinees apart.

in:  {"id": "v1", "task": "sums", "question": "2 + 2?"} and predictions
     {"id": "v1-student-0-0", "parent_id": "v1", "model": "student", "shots": 0,
      "candidate_index": 0, "is_correct": true}
out: {"id": "v1", "task": "sums", "question": "2 + 2?", "discrimination": 1.7, "difficulty": -0.3}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage

if TYPE_CHECKING:
    from llm_distill.methods.item_response import Choice, Chosen

PREDICTION = ["parent_id", "model", "shots", "candidate_index", "is_correct"]
Examinee = tuple[str, str, int, int]
"""Stage, model, number of worked examples, and which of several answers."""


class SelectItems(Stage):
    """Keeps, for each task, the `n` items with the highest discrimination.

    A two-parameter logistic item-response model is fitted to which examinee (a model with a number
    of worked examples in its prompt) answered what. Items that all or none answer tell nothing, and
    items that better examinees miss are never taken. With fewer than three different examinees,
    items are drawn at random; if fewer than `n` discriminate, the rest is drawn from the items that
    tell nothing.
    """

    added_columns = ("discrimination", "difficulty")
    always_seeded = True
    stage: Literal["select_items"]
    rows: Rows = Field(description="the stage whose rows are the items")
    predictions: list[Rows] = Field(
        min_length=1, description="`evaluate` stages over these items; their examinees are joined"
    )
    n: int = Field(40, ge=1, description="items to keep for each task")

    def required_columns(self) -> dict[str, set[str]]:
        needed = {name: {*PREDICTION} for name in self.predictions}
        return {**needed, self.rows: {"id", *needed.get(self.rows, ())}}

    def run(self, context: Context) -> RowsOutput:
        ids_by_task: dict[str, list[str]] = {}
        for row in context.each_row(self.rows):
            ids_by_task.setdefault(task_of(row), []).append(row["id"])
        examinees = self._examinees(context)
        chosen: dict[str, Chosen] = {}
        tables: list[dict[str, Any]] = []
        for task, ids in ids_by_task.items():
            choice = self._choose(ids, examinees, context.seed)
            chosen.update({ids[item.index]: item for item in choice.items})
            tables.append(self._report(task, len(ids), choice, context))
        context.metrics["tasks"] = tables
        context.drop("not selected", len(context.rows(self.rows)) - len(chosen))
        return RowsOutput(self._rows(context, chosen), self.output_features(context))

    def _examinees(self, context: Context) -> dict[Examinee, dict[str, bool]]:
        """Each one's answers by item; the same model in two stages is two examinees."""
        examinees: dict[Examinee, dict[str, bool]] = {}
        for name in self.predictions:
            for row in context.rows(name).select_columns(PREDICTION):
                examinee = name, row["model"], row["shots"], row["candidate_index"]
                answers = examinees.setdefault(examinee, {})
                answers[row["parent_id"]] = bool(row["is_correct"])
        return examinees

    def _choose(
        self, ids: list[str], examinees: dict[Examinee, dict[str, bool]], seed: int
    ) -> Choice:
        import numpy as np

        from llm_distill.methods.item_response import choose_items

        matrix = np.zeros((len(examinees), len(ids)))
        for line, ((stage, model, shots, _), answers) in enumerate(examinees.items()):
            for column, identity in enumerate(ids):
                if identity not in answers:
                    raise DataError(
                        f"item {identity} of '{self.rows}' has no answer by {model} with "
                        f"{shots} shots in '{stage}'; evaluate the same rows there"
                    )
                matrix[line, column] = answers[identity]
        order = [derive_seed(seed, "select_items", identity) for identity in ids]
        return choose_items(matrix, self.n, order)

    def _report(self, task: str, n_items: int, choice: Choice, context: Context) -> dict[str, Any]:
        by_fit = sum(item.discrimination is not None for item in choice.items)
        at_random = len(choice.items) - by_fit
        where = f"task '{task}': " if task else ""
        if not choice.fitted:
            context.warn(
                f"{where}{choice.n_examinees} different examinees and "
                f"{n_items - choice.n_uninformative} items that tell them apart are too few for "
                f"item response; {at_random} items drawn at random"
            )
        elif at_random or len(choice.items) < self.n:
            context.warn(
                f"{where}{by_fit} of {n_items} items discriminate, {self.n} are wanted; "
                f"{at_random} added at random"
            )
        return {
            "task": task,
            "items": n_items,
            "takers": choice.n_examinees,
            "uninformative": choice.n_uninformative,
            "negative_discrimination": choice.n_negative,
            "by_discrimination": by_fit,
            "at_random": at_random,
        }

    def _rows(self, context: Context, chosen: dict[str, Chosen]) -> Iterator[Row]:
        for row in context.each_row(self.rows):
            item = chosen.get(row["id"])
            if item is not None:
                found = {"discrimination": item.discrimination, "difficulty": item.difficulty}
                yield {**row, **found}
