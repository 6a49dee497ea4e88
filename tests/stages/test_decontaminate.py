"""decontaminate: what overlaps goes, and is counted for the source that it overlaps."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.stages.decontaminate import Decontaminate
from tests.methods.templated import drawn

Run = Callable[..., Any]
TEXT = "a farmer has seven cows and three hens and sells two of them to his old friend"
WORDS = TEXT.split()


def stage(**settings: Any) -> Decontaminate:
    given = {"rows": "rows", "against": ["seeds", "test"], **settings}
    return Decontaminate(stage="decontaminate", **given)


def rows(*texts: str | None, column: str = "question") -> list[dict[str, Any]]:
    return [{"id": f"r{i}", column: text} for i, text in enumerate(texts)]


def test_overlaps_are_counted_by_source(run_stage: Run) -> None:
    given = rows(
        " ".join(["Once", *WORDS[:13], "x"]),  # 13 words in a row of the test's
        " ".join(["Once", *WORDS[:12], "x", *WORDS[13:]]),  # 12 only
        "What is 2 + 2",
        "What is 2 - 2?",
        "He asks: what is 2 + 2?",  # a short text is compared as a whole
        None,
        "new",
    )
    run = run_stage(
        stage(),
        {
            "rows": given,
            "seeds": rows("what is 2 + 2?", None),
            "test": rows(" ".join(WORDS).upper(), "what is 2 + 2?"),
        },
    )
    assert [row["id"] for row in run.rows] == ["r1", "r3", "r4", "r6"]
    assert run.dropped == {"overlaps test": 1, "copy in seeds": 1, "no question": 1}


def test_ngram_and_columns_are_settings(run_stage: Run) -> None:
    texts = rows(" ".join(WORDS[:12]), " ".join(WORDS[:11]), column="text")
    given = {"rows": texts, "test": rows(" ".join(WORDS))}
    tight = stage(against=["test"], column="text", ngram=12)
    assert [row["id"] for row in run_stage(tight, given).rows] == ["r1"]
    assert len(run_stage(stage(against=["test"], column="text"), given).rows) == 2


def test_columns_and_mistakes() -> None:
    settings = stage(column="text", against_column="q")
    assert settings.required_columns() == {"rows": {"id", "text"}, "seeds": {"q"}, "test": {"q"}}
    assert settings.output_columns({"rows": frozenset({"id"})}) == {"id"}
    with pytest.raises(ValidationError, match="are the rows themselves"):
        stage(against=["rows"])
    with pytest.raises(ValidationError, match="at least 1 item"):
        stage(against=[])


def test_a_tasks_own_wording_is_no_overlap(run_stage: Run) -> None:
    """Every question of the task begins with the same 18 words; only an item's own words count."""
    seen = [f"{TEXT} who lives in {place} near the sea" for place in ("Rome", "Oslo", "Lima")]
    new = f"{TEXT} who lives in Bern far from the sea"
    given = rows(new, seen[1].upper(), f"{new} and far, so he says, from each and every lake")
    run = run_stage(stage(against=["test"]), {"rows": given, "test": rows(*seen, None)})
    assert [row["id"] for row in run.rows] == ["r0", "r2"]
    near = f"near {WORDS[0]} b c d who lives in Rome near the sea as well as he ever could"
    run = run_stage(stage(against=["test"], ngram=6), {"rows": rows(near), "test": rows(*seen)})
    assert run.dropped == {"overlaps test": 1}


def test_a_task_that_is_lost_is_said(run_stage: Run) -> None:
    given = [{**row, "task": "cows"} for row in rows(TEXT)] + [
        {"id": "x", "question": "What?", "task": "words"}
    ]
    run = run_stage(stage(against=["test"]), {"rows": given, "test": rows(TEXT)})
    assert run.warnings == [
        "no row of task 'cows' is left, all are found in test by whole; if they are new questions, "
        "set compare: near or whole"
    ]


def test_what_is_compared_is_chosen_for_each_task_and_said(
    run_stage: Run, caplog: pytest.LogCaptureFixture
) -> None:
    made = [{"question": text, "task": "balls"} for text in drawn("tracking", 80, seed=4)]
    test = [*made[:40], {"question": TEXT, "task": "cows"}]
    given = [*made[30:], {"question": f"Once {TEXT}, he says.", "task": "cows"}]
    given = [{"id": str(i), **row} for i, row in enumerate(given)]
    with caplog.at_level("INFO"):
        run = run_stage(stage(against=["test"]), {"rows": given, "test": test})
    dropped = run.dropped["near-copy in test"] + run.dropped["copy in test"]
    assert 10 <= dropped <= 14
    assert run.dropped["overlaps test"] == 1
    how, shares = run.metrics["figures"]
    assert [row["labels"]["by"][:11] for row in how["rows"]] == ["near-copies", "13 words in"]
    assert [row["value"] for row in how["rows"]][1] == 0
    assert {(r["labels"]["task"], r["labels"]["by"]) for r in shares["rows"]} == {
        ("balls", "near"), ("balls", "whole"), ("cows", "ngram"),
    }  # fmt: skip
    assert "cows: 1 of 1 found in test by ngram" in caplog.text
    assert re.search(r"balls: by near-copies above 0\.\d\d \(\d+% of its own texts", caplog.text)
    plain = run_stage(
        stage(against=["test"], compare={"balls": "ngram"}), {"rows": given, "test": test}
    )
    assert len(plain.rows) < 5
    with pytest.raises(DataError, match="'ball' is no task .*did you mean 'balls'"):
        run_stage(stage(against=["test"], compare={"ball": "near"}), {"rows": given, "test": test})
    with pytest.raises(ValidationError, match="compare"):
        stage(compare="rouge")


def test_a_stage_without_tasks_is_one_task(run_stage: Run) -> None:
    made = [{"id": str(i), "question": text} for i, text in enumerate(drawn("tracking", 80, 4))]
    given = {"rows": made[40:], "test": made[:40]}
    assert len(run_stage(stage(against=["test"]), given).rows) > 35
    ngrams = stage(against=["test"], compare={"test": "ngram"})
    assert len(run_stage(ngrams, given).rows) < 5
