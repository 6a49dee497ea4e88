"""mixture_reweight: DDK's shares from round to round, as `mix` reads them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.mix import Mix
from llm_distill.stages.mixture_reweight import MixtureReweight
from llm_distill.stages.perplexity_gap import PerplexityGap

Run = Callable[..., Any]


def gaps(**of: float | None) -> list[dict[str, Any]]:
    return [{"id": name, "domain": name, "score": value} for name, value in of.items()]


def stage(**settings: Any) -> MixtureReweight:
    return MixtureReweight(stage="mixture_reweight", rows="gap", **settings)


def weights(run: Any) -> dict[str, float]:
    return {row["id"]: row["weight"] for row in run.rows}


def test_two_rounds(run_stage: Run) -> None:
    first = run_stage(stage(), {"gap": gaps(a=1, b=1.2, c=2, d=1)})
    assert [row["round"] for row in first.rows] == [1] * 4
    assert list(weights(first).values()) == pytest.approx(
        [0.1684, 0.2056, 0.4576, 0.1684], abs=5e-5
    )
    given = {"gap": gaps(a=1, b=1.1, c=1.5, d=1), "old": first.rows}
    second = run_stage(stage(before="old"), given)
    assert list(weights(second).values()) == pytest.approx(
        [0.1888, 0.2112, 0.4111, 0.1888], abs=6e-5
    )
    row = second.rows[2]
    assert row["weights"] == [weights(first)["c"], weights(second)["c"]]
    assert [row["round"], row["score"], row["domain"]] == [2, 1.5, "c"]
    (table,) = Results.from_metrics(second.metrics).own
    assert table.columns == ("round", "a", "b", "c", "d")
    assert table.cells[1] == ("2", "18.9%", "21.1%", "41.1%", "18.9%")
    equal = run_stage(stage(before="old", smoothing=0), given)
    assert list(weights(equal).values()) == pytest.approx([0.25] * 4)


def test_mix_draws_by_it(run_stage: Run) -> None:
    shares = run_stage(stage(by="topic"), {"gap": gaps(a=1, b=3)}).rows
    rows = [{"id": f"{of}{i}", "topic": of} for of in "ab" for i in range(50)]
    mix = Mix(stage="mix", rows=["rows"], by="topic", n=50, weights_from="shares")
    drawn = run_stage(mix, {"rows": rows, "shares": shares}).rows
    assert Counter(row["topic"] for row in drawn) == {"a": 6, "b": 44}  # softmax(1, 3)


@pytest.mark.parametrize(
    ("student", "drawn"),
    [
        ({"a": 0.2, "b": 0.9}, {"a": 27, "b": 73}),  # ρ is 1 and exp(0.7): softmax gives 26.6 %
        ({"a": 0.2, "b": 0.2}, {"a": 50, "b": 50}),  # the student is the teacher: nothing lags
    ],
)
def test_likelihoods_decide_what_is_drawn(
    run_stage: Run, student: dict[str, float], drawn: dict[str, int]
) -> None:
    """A round of DDK without models: planted likelihoods, the gap, the shares, and the mixture."""

    def scored(by: dict[str, float]) -> list[dict[str, Any]]:
        return [
            {"id": f"{of}{i}", "domain": of, "completion": "text", "teacher_logps": [-each] * 4}
            for of, each in by.items()
            for i in range(3)
        ]

    lags = PerplexityGap(stage="perplexity_gap", student_scores="s", teacher_scores="t")
    gap = run_stage(lags, {"s": scored(student), "t": scored({"a": 0.2, "b": 0.2})}).rows
    shares = run_stage(stage(), {"gap": gap}).rows
    rows = [{"id": f"{of}{i}", "domain": of} for of in "ab" for i in range(80)]
    mix = Mix(stage="mix", rows=["rows"], by="domain", n=100, weights_from="shares")
    found = run_stage(mix, {"rows": rows, "shares": shares}).rows
    assert Counter(row["domain"] for row in found) == drawn


def test_what_is_no_ratio(run_stage: Run) -> None:
    with pytest.raises(ValidationError, match="by: 'weight' is a column of the result"):
        stage(by="weight")
    with pytest.raises(DataError, match="row b of 'gap' has no finite score"):
        run_stage(stage(), {"gap": gaps(a=1, b=None)})
    first = run_stage(stage(), {"gap": gaps(a=1, b=1)}).rows
    with pytest.raises(DataError, match="'gap': the domains are not those .* before: b, c"):
        run_stage(stage(before="old"), {"gap": gaps(a=1, c=1), "old": first})
