"""How likely models find two continuations of one prompt, such as a hint and a solution.

in:  {"id": "d1", "prompt": "…", "preferred": "What is 3 times 4?", "other": "It is 12."}
out: {"id": "d1-tutor", "parent_id": "d1", "model": "tutor", "nll_preferred": 9.1, "n_preferred": 7,
      "nll_other": 12.4, "n_other": 5, "nll_gap": 1.18, "error": null}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.requests import Job
from llm_distill.engines.text_scores import TextScore, text_scores
from llm_distill.errors import ConfigError, DataError, quoted
from llm_distill.evaluation.perplexity_figures import paired_tables
from llm_distill.evaluation.results import group_name, shown
from llm_distill.methods.error_budget import ErrorBudget
from llm_distill.methods.paired_perplexity import Continued, gap
from llm_distill.prompts import as_messages, continuation
from llm_distill.rows.columns import Row, features
from llm_distill.rows.messages import is_conversation, read_messages
from llm_distill.stage import Columns, Context, Model, Rows, RowsOutput, Stage

TEXTS = ("preferred", "other")
ADDED = ("nll_preferred", "n_preferred", "nll_other", "n_other", "nll_gap", "error")


class PairedPerplexity(Stage):
    """Perplexity of preferred and other continuations, by model and by the values of a column.

    The perplexity is exp(Σ nll / Σ tokens), the end of a text not among its tokens; with it the nll
    a token of each pair, and in how many pairs the preferred one is likelier by token. Intervals
    are over items, and differences of models over the items that both have scored. Between models
    whose tokenizers differ compare the share of pairs, not nats a token.

    One row an item and model; one that cannot be scored is kept with an `error`.
    """

    stage: Literal["paired_perplexity"]
    rows: Rows = Field(description="the stage whose rows have prompts and both continuations")
    models: list[Model] = Field(
        min_length=1, description="whose likelihoods; differences are from the first"
    )
    by: str | None = Field(
        None, min_length=1, description="a column such as action: also figures for each value"
    )
    max_error_rate: float = Field(
        0.1, ge=0, le=1, description="the share of requests that may fail before the run stops"
    )

    @model_validator(mode="after")
    def _are_free(self) -> Self:
        if len(set(self.models)) < len(self.models):
            raise ValueError("models: each can be named once")
        if self.by in ("id", "parent_id", "model", *ADDED):
            raise ValueError(f"by: '{self.by}' is a column of the result; rename it")
        return self

    def asks(self, place: str) -> Literal["likelihoods"]:
        return "likelihoods"

    def required_columns(self) -> dict[str, set[str]]:
        return {self.rows: {"id", "prompt", *TEXTS, *filter(None, [self.by])}}

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(self._columns())

    def most_rows(self, rows: Mapping[str, int | None]) -> int | None:
        n = rows[self.rows]
        return None if n is None else n * len(self.models)

    def most_asked(self, rows: Mapping[str, int | None]) -> Mapping[str, tuple[int, int]] | None:
        n = rows[self.rows]
        return None if n is None else dict.fromkeys(self.models, (2 * n, 0))

    def run(self, context: Context) -> RowsOutput:
        types = features(self._columns())
        if self.by is not None:
            types[self.by] = context.rows(self.rows).features[self.by]
        return RowsOutput(self._rows(context), types)

    def _columns(self) -> list[str]:
        return ["id", "parent_id", "model", *filter(None, [self.by]), *ADDED]

    def _rows(self, context: Context) -> Iterator[Row]:
        found: dict[str, dict[str, tuple[Continued, Continued]]] = {}
        groups: dict[str, str] = {}
        for model in self.models:
            found[model] = {}
            budget = ErrorBudget(self.max_error_rate, 2 * len(context.rows(self.rows)))
            form = context.model(model).prompt_format

            def texts(row: Row, form: str = form) -> list[str]:
                each = [row[name] for name in TEXTS]
                return each if form == "chat" else list(map(continuation, each))

            for row, scores, error in text_scores(
                context, model, self._jobs(context, model), texts, budget
            ):
                given: Row = dict.fromkeys(ADDED)
                sides = None if scores is None else _sides(scores)
                if sides is not None:
                    found[model][row["id"]] = sides
                    given |= _figures(*sides)
                elif error is None:
                    error = "the model gives one of its tokens no probability at all"
                about = {"id": f"{row['id']}-{model}", "parent_id": row["id"], "model": model}
                if self.by is not None:
                    about[self.by] = row[self.by]
                    groups[row["id"]] = group_name(row[self.by])
                yield {**about, **given, "error": error}
            if not found[model]:
                raise DataError(f"no row of '{self.rows}' could be scored by '{model}'")
        context.metrics.update(shown(*paired_tables(found, self.by or "", groups)))

    def _jobs(self, context: Context, model: str) -> Iterator[Job[Row]]:
        form = context.model(model).prompt_format
        for row in context.each_row(self.rows):
            prompt, error = row["prompt"], None
            for name in TEXTS:
                if row[name] is not None and not isinstance(row[name], str):
                    raise DataError(
                        f"row {row['id']} of '{self.rows}': {name} is {quoted(row[name])}, and has "
                        "to be text; have load_dataset write numbers as text with columns: "
                        f"{{NAME: {name}}}"
                    )
            empty = [name for name in ("prompt", *TEXTS) if not row[name] or _is_blank(row[name])]
            if empty:
                error = f"{', '.join(empty)} is null or empty"
                yield Job(row["id"], row, None, error)
                continue
            asked: Any
            if is_conversation(prompt):
                if form == "text":
                    raise ConfigError(
                        f"models: '{model}' has prompt_format: text, which takes no conversation, "
                        f"and the prompts of '{self.rows}' are some"
                    )
                asked = read_messages(prompt, f"row {row['id']}")
            else:
                asked = prompt if form == "text" else as_messages(prompt)
            request = Request(row["id"], asked, SamplingSettings())
            yield Job(row["id"], row, request)


def _is_blank(value: Any) -> bool:
    return isinstance(value, str) and not value.strip()


def _sides(scores: Sequence[TextScore]) -> tuple[Continued, Continued] | None:
    """None where a likelihood is 0 or no number."""
    if any(not isfinite(score.logp) or not score.n_tokens for score in scores):
        return None
    first, second = (Continued(-score.logp, score.n_tokens) for score in scores)
    return first, second


def _figures(preferred: Continued, other: Continued) -> Row:
    return {
        "nll_preferred": preferred.nll,
        "n_preferred": preferred.n_tokens,
        "nll_other": other.nll,
        "n_other": other.n_tokens,
        "nll_gap": gap(preferred, other),
    }
