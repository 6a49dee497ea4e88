"""paired_perplexity: models whose likelihoods are known, and a tiny one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import exp, inf
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Score
from llm_distill.errors import ConfigError, DataError
from llm_distill.evaluation.results import Results
from llm_distill.models.sources import ModelSource
from llm_distill.stages.paired_perplexity import PairedPerplexity

Run = Callable[..., Any]


class Model:
    """A nat for each word, but `less` for each of a hint."""

    def __init__(self, less: float) -> None:
        self.less = less
        self.prompts: list[Any] = []

    def score(self, requests: Any) -> Iterator[Score]:
        for request in requests:
            self.prompts.append(request.prompt)
            words = request.completion.split()
            if words[0] == "Fail":
                yield Score(request.id, error="too long")
                continue
            each = -self.less if words[0] == "Hint:" else -1.0
            each = -inf if words[0] == "Never" else each
            yield Score(request.id, tuple(range(len(words))), (each,) * len(words))

    def close(self) -> None: ...


def rows(n: int = 6) -> list[dict[str, Any]]:
    """Hints of 3, 4, … words, and solutions of two."""
    return [
        {
            "id": f"d{number}",
            "prompt": f"Dialogue {number}",
            "preferred": f"Hint: look at it{' again' * number}",
            "other": "Solution: 12",
            "action": "ab"[number % 2],
        }
        for number in range(n)
    ]


def stage(**settings: Any) -> PairedPerplexity:
    values = {"stage": "paired_perplexity", "rows": "rows", "models": ["before", "after"]}
    return PairedPerplexity.model_validate({**values, **settings})


def run_on(run_stage: Run, given: list[dict[str, Any]], **settings: Any) -> Any:
    engines = {"before": lambda: Model(1.5), "after": lambda: Model(0.5)}
    return run_stage(stage(**settings), {"rows": given}, engines=engines)


def figures(run: Any, title: str) -> dict[tuple[str, ...], Any]:
    (table,) = [each for each in Results.from_metrics(run.metrics).own if title in each.title]
    return {tuple(figure.labels.values()): figure for figure in table.figures}


def test_a_model_that_learns_to_give_hints(run_stage: Run) -> None:
    run = run_on(run_stage, rows(), by="action")
    assert [row["id"] for row in run.rows[:2]] == ["d0-before", "d1-before"]
    last = run.rows[-1]
    assert (last["model"], last["parent_id"], last["action"]) == ("after", "d5", "b")
    assert (last["nll_preferred"], last["n_preferred"]) == (4.5, 9)
    assert (last["nll_other"], last["n_other"], last["nll_gap"]) == (2, 2, 0.5)
    found = figures(run, "perplexity")
    assert found["before", "all", "preferred"].value == pytest.approx(exp(1.5))
    assert found["after", "all", "preferred"].value == pytest.approx(exp(0.5))
    assert found["after", "a", "other"].value == pytest.approx(exp(1))
    assert found["before", "all", "preferred is likelier"].value == 0
    assert found["after", "b", "preferred is likelier"].value == 1
    changed = figures(run, "difference from before")
    assert changed["after", "all", "nats a token less"].value == pytest.approx(1)
    assert changed["after", "b", "preferred is likelier"].value == 1
    assert changed["after", "a", "nats a token less"].n == 3


def test_rows_without_a_value_are_a_group(run_stage: Run) -> None:
    given = [{**row, "action": None if row["action"] == "b" else "a"} for row in rows()]
    run = run_on(run_stage, given, by="action")
    assert run.rows[-1]["action"] is None
    assert figures(run, "perplexity")["after", "(none)", "preferred"].n == 3


def test_rows_that_cannot_be_scored_are_kept(run_stage: Run) -> None:
    given = rows()
    given[0]["other"] = "Fail here"
    given[1]["other"] = "Never said"
    given[2]["preferred"] = " "
    run = run_on(run_stage, given, max_error_rate=0.5)
    assert [row["error"] for row in run.rows[:4]] == [
        "too long",
        "the model gives one of its tokens no probability at all",
        "preferred is null or empty",
        None,
    ]
    assert [row["nll_gap"] is None for row in run.rows[:4]] == [True] * 3 + [False]
    assert figures(run, "perplexity")["before", "other"].n == 3
    with pytest.raises(DataError, match="more than max_error_rate"):
        run_on(run_stage, given, max_error_rate=0.1)
    with pytest.raises(DataError, match="no row of 'rows' could be scored by 'before'"):
        run_on(run_stage, given[:1], max_error_rate=1)


def test_prompts_as_text_and_as_conversations(run_stage: Run) -> None:
    model = Model(1)
    talk = [{"role": "user", "content": "12?"}, {"role": "assistant", "content": "13"}]
    given = [{**row, "prompt": [*talk, talk[0]]} for row in rows(1)]
    engines = {"m": lambda: model}
    run_stage(stage(models=["m"]), {"rows": given}, engines=engines)
    assert [turn["role"] for turn in model.prompts[0]] == ["user", "assistant", "user"]
    plain = {"m": ModelSource("m", "x", prompt_format="text")}
    with pytest.raises(ConfigError, match="takes no conversation"):
        run_stage(stage(models=["m"]), {"rows": given}, engines=engines, models=plain)
    run_stage(stage(models=["m"]), {"rows": rows(1)}, engines=engines, models=plain)
    assert model.prompts[-1] == "Dialogue 0"


def test_a_tiny_model_finds_what_it_was_taught_likelier(run_stage: Run) -> None:
    from llm_distill.engines.transformers.engine import TransformersEngine
    from llm_distill.engines.transformers.settings import TransformersSettings

    source = ModelSource("m", "data/models/tiny-teacher")
    settings = TransformersSettings(device="cpu")
    question = (
        "Question: Mia buys 3 shells a day for 2 days. How many shells does Mia buy?\nAnswer:"
    )
    given = [
        {
            "id": "a",
            "prompt": question,
            "preferred": "3 shells a day for 2 days are 6 shells.",
            "other": "shells for are 2 6 day 3 a days shells.",
        }
    ]
    run = run_stage(
        stage(models=["m"]),
        {"rows": given},
        engines={"m": lambda: TransformersEngine(source, settings)},
        models={"m": source},
    )
    (row,) = run.rows
    assert row["nll_gap"] > 0.5
    assert row["nll_gap"] == pytest.approx(
        row["nll_other"] / row["n_other"] - row["nll_preferred"] / row["n_preferred"]
    )


def test_settings() -> None:
    assert stage().asks("models[0]") == "likelihoods"
    assert stage().most_asked({"rows": 3}) == {"before": (6, 0), "after": (6, 0)}
    with pytest.raises(ValidationError, match="each can be named once"):
        stage(models=["a", "a"])
    with pytest.raises(ValidationError, match="is a column of the result"):
        stage(by="model")


def test_numbers_are_no_texts(run_stage: Run) -> None:
    wrong = [{**row, "other": 12} for row in rows(1)]
    with pytest.raises(DataError, match="of 'rows': other is 12, and has to be text; have load"):
        run_stage(
            PairedPerplexity(stage="paired_perplexity", rows="rows", models=["a"]),
            {"rows": wrong},
            engines={"a": lambda: Model(0.5)},
        )
