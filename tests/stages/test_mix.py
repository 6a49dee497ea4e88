"""mix: rows of several stages, all of them or in proportions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stages.mix import Mix

Run = Callable[..., Any]


def rows(of: str, n: int, **more: Any) -> list[dict[str, Any]]:
    return [{"id": f"{of}{i}", "question": f"{of} {i}?", **more} for i in range(n)]


def stage(*names: str, **settings: Any) -> Mix:
    return Mix(stage="mix", rows=[*names], **settings)


def ids(run: Any) -> list[str]:
    return [row["id"] for row in run.rows]


def test_all_of_them(run_stage: Run) -> None:
    a = rows("a", 2, task="t", parent_id="p")
    run = run_stage(stage("a", "b@3"), {"a": a, "b@3": rows("b", 1, domain="d", score=1)})
    empty = {"task": None, "parent_id": None, "domain": None, "score": None, "round": None}
    last = {"id": "b0", "question": "b 0?", "domain": "d", "score": 1}
    assert run.rows == [
        *({**empty, **row, "source": "a"} for row in a),
        {**empty, **last, "source": "b", "round": 3},
    ]
    assert run.warnings == []
    assert run.dropped == {}
    assert not stage("a", "b").is_seeded()
    assert stage("a", n=1).is_seeded()


def test_a_row_keeps_the_round_that_made_it(run_stage: Run) -> None:
    mixed = stage("new@3", "all@2")
    before = [{**row, "round": number} for number, row in enumerate(rows("b", 2), start=1)]
    run = run_stage(mixed, {"new@3": rows("a", 1), "all@2": before})
    assert [(row["source"], row["round"]) for row in run.rows] == [
        ("new", 3),
        ("all", 1),
        ("all", 2),
    ]
    assert "round" not in stage("a", "b").output_columns({"a": frozenset(), "b": frozenset()})
    assert "round" in mixed.output_columns({"new@3": frozenset(), "all@2": frozenset()})


def test_a_round_that_is_no_number(run_stage: Run) -> None:
    before = rows("b", 1, round="first")
    with pytest.raises(DataError, match="row b0 of 'all@2': 'round' is 'first'"):
        run_stage(stage("new@3", "all@2"), {"new@3": rows("a", 1), "all@2": before})


def test_the_same_id_twice(run_stage: Run) -> None:
    new = [{"id": "q", "answer": "1"}, {"id": "r", "answer": "1"}]
    old = [{"id": "q", "answer": "2"}, {"id": "r", "answer": "1", "source": "of another mixture"}]
    run = run_stage(stage("new", "all@1"), {"new": new, "all@1": old})
    assert [(row["answer"], row["source"]) for row in run.rows] == [
        ("1", "new"),
        ("2", "all"),
        ("1", "all"),
    ]
    assert [name[:2] for name in ids(run)] == ["q-", "q-", "r"]
    assert run.dropped == {"the same row twice": 1}
    assert run.metrics["renamed"] == 2
    other = run_stage(stage("all@1", "new"), {"new": new[::-1], "all@1": old[::-1]})
    assert sorted(map(str, other.rows)) == sorted(map(str, run.rows))


def test_rounds_that_write_the_same_ids_again(run_stage: Run) -> None:
    rounds = [[{"id": "q", "answer": answer}] for answer in "12134"]
    collected: list[dict[str, Any]] = []
    for new in rounds:
        given = {"new": new, "all": collected} if collected else {"new": new}
        collected = run_stage(stage(*given), given).rows
    assert sorted(row["answer"] for row in collected) == ["1", "2", "3", "4"]
    assert len({row["id"] for row in collected}) == 4


def test_types(run_stage: Run) -> None:
    a = [{"id": "a", "n": 1, "of": None, "messages": [{"role": "user", "content": "x"}]}]
    b = [{"id": "b", "n": 0.5, "of": "x", "messages": [{"role": "user", "content": "y", "w": 1}]}]
    run = run_stage(stage("a", "b"), {"a": a, "b": b})
    assert [row["n"] for row in run.rows] == [1, 0.5]
    assert [row["of"] for row in run.rows] == [None, "x"]
    with pytest.raises(DataError, match="'n' is int64 in 'a' and string in 'c'; give one of them"):
        run_stage(stage("a", "c"), {"a": a, "c": [{"id": "c", "n": "1"}]})


def test_copies_are_read_without_all_the_others(
    run_stage: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sources are read twice, once for the draw; and the same rows come in the same order."""
    from llm_distill.runtime.context import StageContext
    from llm_distill.stages import mix

    monkeypatch.setattr(mix, "COPIES_AT_ONCE", 2)
    n_read: Counter[str] = Counter()
    each_row = StageContext.each_row

    def counting(self: Any, reference: str) -> Any:
        n_read[reference] += 1
        return each_row(self, reference)

    monkeypatch.setattr(StageContext, "each_row", counting)
    nested = {"messages": [{"role": "user", "content": "x"}], "score": 1}
    given = {"a": rows("a", 30), "b": rows("b", 5, **nested)}
    run = run_stage(stage("a", "b", n=80, weights={"a": 1, "b": 1}), given)
    assert n_read == {"a": 2, "b": 2}
    of_b = [row for row in run.rows if row["source"] == "b"]
    firsts = {row["id"]: row for row in of_b[:5]}
    assert len(of_b) == 40
    for place, row in enumerate(of_b):
        first = of_b[place % 5]
        assert row == {**firsts[first["id"]], "id": row["id"]}
        assert row["id"] == first["id"] + (f"-copy-{place // 5 + 1}" if place >= 5 else "")


def test_by_weights_of_sources(run_stage: Run) -> None:
    given = {"a": rows("a", 30), "b": rows("b", 5)}
    run = run_stage(stage("a", "b", n=20, weights={"a": 3, "b": 1}), given)
    assert Counter(row["source"] for row in run.rows) == {"a": 15, "b": 5}
    assert run.dropped == {"not drawn": 15}
    turned = {name: of[::-1] for name, of in given.items()}
    again = run_stage(stage("b", "a", n=20, weights={"b": 1, "a": 3}), turned)
    assert sorted(ids(again)) == sorted(ids(run))
    other = run_stage(stage("a", "b", n=20, weights={"a": 3, "b": 1}), given, seed=1)
    assert sorted(ids(other)) != sorted(ids(run))
    (table,) = Results.from_metrics(run.metrics).own
    assert table.columns == ("source", "rows", "taken", "share")
    assert table.cells == (("a", "30", "15", "75.0%"), ("b", "5", "5", "25.0%"))


def test_sources_that_have_the_same_rows(run_stage: Run) -> None:
    both = rows("r", 4)
    given = {"all": [*both, *rows("s", 4)], "new": both}
    assert len(run_stage(stage("all", "new"), given).rows) == 8
    assert len(run_stage(stage("all", "new", n=8), given).rows) == 8
    settings = {"n": 12, "weights": {"all": 2, "new": 1}}
    run = run_stage(stage("all", "new", **settings), given)
    assert Counter(row["source"] for row in run.rows) == {"all": 8, "new": 4}
    of_new = {row["id"] for row in run.rows if row["source"] == "new"}
    assert of_new == {f"r{i}-copy-2" for i in range(4)}
    again = run_stage(stage("new", "all", **settings), given)
    assert sorted(map(str, again.rows)) == sorted(map(str, run.rows))
    assert run.warnings == []


def test_a_part_that_is_exhausted(run_stage: Run) -> None:
    given = {"a": rows("a", 30), "b": rows("b", 2, parent_id="p")}
    halves = {"n": 10, "weights": {"a": 1, "b": 1}}
    run = run_stage(stage("a", "b", **halves), given)
    of_b = [row for row in run.rows if row["source"] == "b"]
    assert len({row["id"] for row in of_b}) == 5
    assert Counter(row["id"][:2] for row in of_b) in ({"b0": 3, "b1": 2}, {"b0": 2, "b1": 3})
    assert {row["parent_id"] for row in of_b} == {"p"}
    assert {"b0", "b1", "b0-copy-2", "b1-copy-2"} < {row["id"] for row in of_b}
    assert run.warnings == [
        "the part 'b' (source) has 2 rows, and 5 are wanted: it starts again, and a row comes up "
        "to 3 times"
    ]
    with pytest.raises(DataError, match=r"'b' \(source\) has 2 rows, and 5 are wanted \(repeat: f"):
        run_stage(stage("a", "b", repeat=False, **halves), given)
    with pytest.raises(DataError, match="'b' .* has 0 rows, and 5 are wanted; see what"):
        run_stage(stage("a", "b", **halves), {**given, "b": []})


def test_by_a_column(run_stage: Run) -> None:
    a = [*rows("a", 10, domain="x"), *rows("c", 10, domain="y"), *rows("e", 3, domain=None)]
    given = {"a": a, "b": rows("b", 10, domain="y")}
    run = run_stage(stage("a", "b", by="domain", n=9, weights={"x": 2, "y": 1}), given)
    assert Counter(row["domain"] for row in run.rows) == {"x": 6, "y": 3}
    assert run.dropped == {"no domain": 3, "not drawn": 21}
    counts = run_stage(stage("a", "b", by="domain", counts={"x": 0, "y": 2}), given)
    assert Counter(row["domain"] for row in counts.rows) == {"y": 2}
    natural = run_stage(stage("a", "b", by="domain", n=6), given)
    assert Counter(row["domain"] for row in natural.rows) == {"x": 2, "y": 4}
    equal = run_stage(stage("a", "b", by="domain", n=7, weights="equal"), given)
    assert Counter(row["domain"] for row in equal.rows) in ({"x": 4, "y": 3}, {"x": 3, "y": 4})
    with pytest.raises(DataError, match=r"weights: no part 'z' \(domain\); allowed: x, y"):
        run_stage(stage("a", by="domain", n=9, weights={"x": 2, "z": 1}), given)
    with pytest.raises(DataError, match=r"counts \(domain\) do not name 'y'; write 'y: 0'"):
        run_stage(stage("a", by="domain", counts={"x": 2}), given)
    with pytest.raises(DataError, match="'skills' holds several values"):
        run_stage(stage("a", by="skills", n=1), {"a": rows("a", 1, skills=["x"])})


def test_weights_of_a_stage(run_stage: Run) -> None:
    given = {"a": [*rows("a", 9, task="x"), *rows("c", 9, task="y")]}
    settings = {"by": "task", "n": 8, "weights_from": "w"}
    weights = [{"id": "1", "task": "x", "weight": 0.75}, {"id": "2", "task": "y", "weight": 0.25}]
    run = run_stage(stage("a", **settings), {**given, "w": weights})
    assert Counter(row["task"] for row in run.rows) == {"x": 6, "y": 2}
    named = [{"id": "x", "weight": 0}, {"id": "y", "weight": 2}]
    assert {r["task"] for r in run_stage(stage("a", **settings), {**given, "w": named}).rows} == {
        "y"
    }
    for bad, message in (
        ([{"id": "x", "weight": None}, *named[1:]], "row x of 'w': weight is None"),
        ([{"id": "x", "weight": True}, {"id": "y", "weight": False}], "weight is True; a weight"),
        ([{"id": "x", "weight": -1.0}, *named[1:]], "weights_from: x: -1.0; a weight is a number"),
        ([{"id": "x", "weight": float("nan")}, *named[1:]], "weights_from: x: nan"),
        ([{"id": "x", "weight": 0}, {"id": "y", "weight": 0}], "every weight is 0"),
        (named[1:], "weights_from: 'w' has no row for 'x' .task., .*something of every task"),
        ([{"id": "z", "task": "x", "weight": 1}, *named], "the part 'x' has a weight already"),
    ):
        with pytest.raises(DataError, match=message):
            run_stage(stage("a", **settings), {**given, "w": bad})


def test_parts_that_are_numbers(run_stage: Run) -> None:
    """0 and false are names of parts as any other."""
    given = {"a": [*rows("a", 9, task=0), *rows("c", 9, task=1)]}
    weights = [{"id": "one", "task": 0, "weight": 3.0}, {"id": "two", "task": 1, "weight": 1.0}]
    run = run_stage(stage("a", by="task", n=8, weights_from="w"), {**given, "w": weights})
    assert Counter(row["task"] for row in run.rows) == {0: 6, 1: 2}


def test_equal_weights_of_sources_one_of_which_is_empty(run_stage: Run) -> None:
    settings = {"n": 4, "weights": "equal"}
    run = run_stage(
        stage("a", "b", "c", **settings), {"a": rows("a", 9), "b": [], "c": rows("c", 3)}
    )
    assert Counter(row["source"] for row in run.rows) == {"a": 2, "c": 2}


def test_all_parts_that_are_not_named_are_said(run_stage: Run) -> None:
    given = {"a": [*rows("a", 2, task="x"), *rows("c", 2, task="y"), *rows("e", 2, task="z")]}
    with pytest.raises(DataError, match=r"counts .task. do not name 'y', 'z'; write 'y: 0'"):
        run_stage(stage("a", by="task", counts={"x": 2}), given)


def test_a_round_that_found_nothing(run_stage: Run) -> None:
    run = run_stage(stage("new", "all"), {"new": [], "all": rows("a", 2)})
    assert ids(run) == ["a0", "a1"]
    assert run_stage(stage("new"), {"new": []}).rows == []
    for weights in (None, "equal"):
        assert run_stage(stage("new", n=3, weights=weights), {"new": []}).rows == []


@pytest.mark.parametrize(
    "given", [{"n": 3}, {"n": 3, "weights": "equal"}, {"n": 3, "weights": {"x": 1}}]
)
def test_rows_of_no_part(run_stage: Run, given: dict[str, Any]) -> None:
    with pytest.raises(DataError, match=r"no row of 'a' has a domain \(by\), so there is no part"):
        run_stage(stage("a", by="domain", **given), {"a": rows("a", 1, domain=None)})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rows": []}, "rows"),
        ({"rows": ["a", "a"]}, "rows: each stage can be named once"),
        ({"weights": {"a": 1, "b": 1}}, "weights: say how many rows to draw"),
        ({"weights_from": "w"}, "weights_from: say how many rows to draw"),
        ({"counts": {"a": 1, "b": 1}, "n": 3}, "n: counts say how many"),
        ({"counts": {"a": 1, "b": 1}, "weights": {"a": 1}}, "weights and counts: give one"),
        ({"by": "task"}, "by: all rows are taken, so there are no parts to draw"),
        ({"repeat": False, "by": "task"}, "by and repeat: all rows are taken"),
        ({"counts": {"a": 0, "b": 0}}, "counts: all are 0"),
        ({"n": 3, "weights": {"a": 0, "b": 0}}, "weights: all are 0"),
        ({"n": 3, "weights": {"a": 1, "b": -1}}, "greater than or equal to 0"),
        ({"n": 3, "weights": {"a": 1, "b": float("nan")}}, "finite|greater"),
        ({"n": 3, "weights": {"a": 1, "c": 1}}, r"weights: no part 'c' .source.; allowed: a, b"),
        ({"n": 3, "weights": {"a": 1}}, r"weights .source. do not name 'b'; write 'b: 0' to leave"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Mix.model_validate({"stage": "mix", "rows": ["a", "b"], **settings})


ROUNDS = """
name: rounds
stages:
  seeds: {stage: load_dataset, path: data/word_problems, split: seeds}
  rounds:
    repeat:
      times: 3
      start: {all: null}
      stages:
        new: {stage: select, rows: seeds, n: 4, order: random}
        all: {stage: mix, rows: [new, all@previous]}
  halves: {stage: mix, rows: [new@1, new@last], n: 4}
"""


def test_in_rounds(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(ROUNDS)
    stages = load_pipeline(str(tmp_path / "p.yaml")).stages
    assert [getattr(stages[f"all@{n}"], "rows") for n in (1, 2, 3)] == [  # noqa: B009
        ["new@1"],
        ["new@2", "all@1"],
        ["new@3", "all@2"],
    ]
