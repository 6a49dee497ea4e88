"""Random rows of an earlier kind beside new ones, so that training forgets less.

in:  new rows {"id": "a", "question": "9 - 4?", "score": 0.5} and a pool {"id": "t", "question": …}
out: {"id": "a", "question": "9 - 4?", "is_replay": false},
     {"id": "replay/t", "question": "2 + 2?", "is_replay": true}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from llm_distill.columns import Row
from llm_distill.errors import DataError
from llm_distill.methods.examples import question_key
from llm_distill.methods.seeds import derive_seed
from llm_distill.stage import Columns, Context, Rows, RowsOutput, Stage


class Replay(Stage):
    """All rows of one stage, and for each of them `ratio` random rows of another.

    A model that is trained on what it lacks alone forgets what it could; some of the ordinary
    training questions among them help. A question that is among the new ones is not replayed. Only
    columns that both stages have are kept, and `weight` where the new rows have it: 1 for a
    replayed row. No new rows, no replayed ones: then there is nothing to train on.
    """

    stage: Literal["replay"]
    rows: Rows = Field(description="the new rows; all are kept")
    pool: Rows = Field(description="the stage whose rows are drawn from")
    ratio: float = Field(gt=0, description="rows of the pool for each new one: 0.25 is one in four")

    @model_validator(mode="after")
    def _are_two(self) -> Self:
        if self.rows == self.pool:
            raise ValueError(f"pool: '{self.pool}' are the new rows themselves")
        return self

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "question"}, self.pool: {"id", "question"}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        new, pool = inputs[self.rows], inputs[self.pool]
        if new is None or pool is None:
            return None
        return (new & (pool | {"weight"})) | {"is_replay"}

    def may_be_empty(self) -> set[str]:
        return {self.rows}

    def is_seeded(self) -> bool:
        return True

    def run(self, context: Context) -> RowsOutput:
        from datasets import Features

        from llm_distill.columns import features

        new, pool = context.rows(self.rows).features, context.rows(self.pool).features
        shared = {name: kind for name, kind in new.items() if name in {*pool, "weight"}}
        for name, kind in shared.items():
            if pool.get(name, kind) != kind:
                raise DataError(
                    f"column '{name}' is {kind} in '{self.rows}', but {pool[name]} in '{self.pool}'"
                )
        columns = features(["is_replay"], like=Features(shared))
        return RowsOutput(self._rows(context, set(shared)), columns)

    def _rows(self, context: Context, shared: set[str]) -> Iterator[Row]:
        new = context.rows(self.rows)
        n_new, wanted = len(new), round(self.ratio * len(new))
        known = {question_key(text) for text in (new["question"] if n_new else ()) if text}
        pool = [
            row["id"]
            for row in (context.each_row(self.pool) if n_new else ())
            if row["question"] and question_key(row["question"]) not in known
        ]
        if wanted > len(pool):
            context.warn(
                f"{len(pool)} rows of '{self.pool}' are replayed, where ratio {self.ratio:g} asks "
                f"for {wanted}: there are no others that are not among the new ones"
            )
        # By id, not by position: the same rows are drawn whatever their order.
        ranked = sorted(pool, key=lambda identity: (_rank(context.seed, identity), identity))
        drawn = set(ranked[:wanted])
        context.metrics.update(n_new=n_new, n_replayed=len(drawn))
        with context.progress("replay", n_new + len(drawn)) as bar:
            for row in context.each_row(self.rows):
                yield {**{name: row[name] for name in shared}, "is_replay": False}
                bar.advance()
            for row in context.each_row(self.pool) if drawn else ():
                if row["id"] in drawn:
                    kept = {name: row.get(name, 1.0) for name in shared}  # only weight can lack
                    yield {**kept, "id": f"replay/{row['id']}", "is_replay": True}
                    bar.advance()


def _rank(seed: int, identity: str) -> int:
    """With a name of its own: `select` draws by id too, and would have taken the same rows."""
    return derive_seed(seed, "replay", identity)
