"""Take the training questions most similar to difficult ones: a control without skills.

in:  {"id": "t1", "task": "sums", "question": "2 + 2?"} and questions
     {"id": "v7", "task": "sums", "question": "3 + 2?"}
out: {"id": "v7/t1", "parent_id": "t1", "source_id": "t1", "task": "sums", "question": "2 + 2?",
      "weight": 1.0}
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import ClassVar, Literal

from pydantic import Field

from llm_distill.errors import DataError
from llm_distill.methods.seeds import derive_seed
from llm_distill.methods.skill_selection import check_apart, random_subset, selected
from llm_distill.models.hub import cached_commit
from llm_distill.paths import file_digests, find_resource
from llm_distill.rows.columns import Row, task_of
from llm_distill.stage import Context, Rows, RowsOutput, Stage


class SelectSimilar(Stage):
    """For each difficult question, takes the `draws` most similar questions of its task.

    Similarity is the cosine of their embeddings. Of all pairs a random `n` are kept; a question may
    be taken several times, for several difficult ones.
    """

    needs_weights: ClassVar[bool] = True

    added_columns = ("id", "parent_id", "source_id", "weight")
    always_seeded = True
    stage: Literal["select_similar"]
    rows: Rows = Field(description="the stage whose rows are drawn from")
    questions: Rows = Field(description="the stage whose rows are the difficult questions")
    model: str = Field(
        min_length=1,
        description="embeds questions: a directory of sentence-transformers or transformers, or a "
        "name on the Hub",
    )
    revision: str | None = Field(None, description="branch, tag or commit on the Hub")
    draws: int = Field(5, ge=1, description="for each difficult question")
    n: int | None = Field(None, ge=1, description="how many are kept; null keeps all")

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "question"}, self.questions: {"id", "question"}}

    def may_be_empty(self) -> set[str]:
        return {self.questions}

    def source_digests(self) -> dict[str, str]:
        local = find_resource(self.model)
        if local is None:
            commit = cached_commit("model", self.model, self.revision)
            return {self.model: commit or self.revision or "main"}
        return file_digests(local)

    def hub_models(self) -> list[tuple[str, str | None]]:
        return [] if find_resource(self.model) else [(self.model, self.revision)]

    def run(self, context: Context) -> RowsOutput:
        rows, questions = context.rows(self.rows), context.rows(self.questions)
        ids, texts = (questions["id"], questions["question"]) if len(questions) else ((), ())
        check_apart(context.each_row(self.rows), self.rows, ids, texts, self.questions)
        pairs = self._pairs(context) if len(questions) else {}
        kept = random_subset(pairs, self.n, derive_seed(context.seed, "select_similar"))
        chosen: dict[str, list[Row]] = defaultdict(list)
        for identity, source in pairs.items():
            if identity in kept:
                chosen[source].append({"id": identity, "weight": 1.0})
        context.metrics.update(pairs=len(pairs), kept_pairs=len(kept), questions=len(chosen))
        context.drop("not selected", len(rows) - len(chosen))
        if pairs and self.n is not None and self.n > len(pairs):
            context.warn(
                f"{len(pairs)} pairs of a difficult question and a similar one, but n is "
                f"{self.n}; raise draws (now {self.draws}), or have the student answer more"
            )
        taken = selected(context.each_row(self.rows), chosen)
        return RowsOutput(taken, self.output_features(context))

    def _pairs(self, context: Context) -> dict[str, str]:
        """By the id of a pair, the id of its training question."""
        from llm_distill.methods.similarity import most_similar
        from llm_distill.models.embeddings import embed

        queries, keys = _asking(context, self.questions), _asking(context, self.rows)
        vectors = embed(self.model, self.revision, [row["question"] for row in (*queries, *keys)])
        keys_of, queries_of = _places_by_task(keys), _places_by_task(queries)
        found: dict[str, str] = {}
        cosines: list[float] = []
        for task, own in queries_of.items():
            there = keys_of.get(task)
            if there is None:
                raise DataError(
                    f"'{self.rows}' has no question of task '{task}', as '{self.questions}' has"
                )
            against = vectors[len(queries) :][there]
            order, similarity = most_similar(vectors[own], against, self.draws)
            cosines += similarity.ravel().tolist()
            for query, nearest in zip(own, order, strict=True):
                for index in nearest:
                    source = keys[there[index]]["id"]
                    found[f"{queries[query]['id']}/{source}"] = source
        context.metrics["mean_cosine"] = sum(cosines) / len(cosines) if cosines else None
        return found


def _asking(context: Context, reference: str) -> list[Row]:
    """The rows with a question, sorted by id, so that ties do not depend on their order."""
    found = [
        {name: row.get(name) for name in ("id", "task", "question")}
        for row in context.each_row(reference)
        if row["question"]
    ]
    return sorted(found, key=lambda row: str(row["id"]))


def _places_by_task(rows: Sequence[Row]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        found.setdefault(task_of(row), []).append(place)
    return found
