"""select: which rows are kept, by group, and what happens when there are too few."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import ConfigError, DataError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.stages.select import Select

Run = Callable[..., Any]
SCORES = [0.1, None, 0.9, 0.5, 0.9, float("nan"), -1.0, 0.7]


def rows() -> list[dict[str, Any]]:
    return [
        {"id": f"r{i}", "task": "ab"[i % 2], "score": score, "skills": ["x", "y"][: i % 2 + 1]}
        for i, score in enumerate(SCORES)
    ]


def stage(**settings: Any) -> Select:
    return Select(stage="select", rows="rows", **settings)


def kept(run: Any) -> list[int]:
    return [int(row["id"][1:]) for row in run.rows]


def test_first(run_stage: Run) -> None:
    run = run_stage(stage(n=3), {"rows": rows()})
    assert kept(run) == [0, 1, 2]
    assert run.dropped == {"not selected": 5}
    assert run.warnings == []


def test_highest_by_score(run_stage: Run) -> None:
    assert kept(run_stage(stage(n=4, order="highest"), {"rows": rows()})) == [2, 3, 4, 7]
    assert kept(run_stage(stage(n=6, order="highest"), {"rows": rows()})) == [0, 2, 3, 4, 6, 7]


def test_lowest_by_score(run_stage: Run) -> None:
    assert kept(run_stage(stage(n=2, order="lowest"), {"rows": rows()})) == [0, 6]
    run = run_stage(stage(n=2, order="lowest", at_least=0.0), {"rows": rows()})
    assert kept(run) == [0, 3]
    assert stage(n=2, order="lowest").is_seeded()  # of equals a random one
    each = [kept(run_stage(stage(n=4, order="lowest"), {"rows": rows()}, seed=s)) for s in (1, 2)]
    assert each == [[0, 3, 6, 7]] * 2
    drawn = {
        kept(run_stage(stage(n=5, order="lowest"), {"rows": rows()}, seed=s))[1] for s in range(9)
    }
    assert drawn == {2, 3}  # r2 and r4 have one score


def test_only_rows_with_a_score_that_is_high_enough(run_stage: Run) -> None:
    run = run_stage(stage(n=9, at_least=0.5), {"rows": rows()})
    assert kept(run) == [2, 3, 4, 7]
    assert run.dropped == {"no score": 2, "score below 0.5": 2}
    best = run_stage(stage(n=1, per="task", order="highest", at_least=0.6), {"rows": rows()})
    assert len(kept(best)) == 2
    assert 7 in kept(best)


def test_what_has_no_score_is_never_the_highest(run_stage: Run) -> None:
    run = run_stage(stage(n=7, order="highest"), {"rows": rows()})
    assert kept(run) == [0, 2, 3, 4, 6, 7]
    assert run.dropped == {"no score": 2}
    assert run.warnings == ["6 rows, but 7 are wanted"]
    losses = [{"id": f"r{i}", "parent_id": "q", "score": s} for i, s in enumerate([-3.5, None, -9])]
    losses.append({"id": "r3", "parent_id": "unscored", "score": None})
    best = run_stage(stage(n=1, order="highest", per="parent_id"), {"rows": losses})
    assert kept(best) == [0]


def test_per_group(run_stage: Run) -> None:
    by_task = stage(n=2, order="highest", per="task")
    assert kept(run_stage(by_task, {"rows": rows()})) == [2, 3, 4, 7]
    assert kept(run_stage(stage(n=1, per="skills"), {"rows": rows()})) == [0, 1]


def test_a_group_that_a_filter_has_emptied_is_said(run_stage: Run) -> None:
    many = [
        {"id": f"r{i}", "label": label, "confidence": sure}
        for i, (label, sure) in enumerate(
            [("a", 0.9), ("b", 0.3), ("c", None), ("a", 0.8), ("b", 0.4), (None, 0.1)]
        )
    ]
    sure = {"by": "confidence", "at_least": 0.5, "per": "label"}
    run = run_stage(stage(n=2, **sure), {"rows": many})
    assert kept(run) == [0, 3]
    assert run.warnings == ["no row is left with label 'b', 'c', of which there were some"]
    with pytest.raises(DataError, match="no row is left with label 'b', 'c', .*; drop fewer"):
        run_stage(stage(n=2, strict=True, **sure), {"rows": many})


LABELLED = [
    {"id": f"r{i}", "label": label, "confidence": sure}
    for i, (label, sure) in enumerate(
        [("a", 0.9), ("b", 0.3), ("a", 0.8), ("b", 0.4), ("a", 0.7), ("c", 0.6), (None, 0.9)]
    )
]


def test_each_value_has_its_own_quota(run_stage: Run) -> None:
    best = {"order": "highest", "by": "confidence", "per": "label"}
    run = run_stage(stage(n={"b": 1, "a": 2}, **best), {"rows": LABELLED})
    assert kept(run) == [0, 2, 3]
    assert run.dropped == {"label without an n": 2, "not selected": 2}
    assert run.warnings == []
    run = run_stage(stage(n={"a": 1, "b": 3, "d": 2}, **best, min_share=0), {"rows": LABELLED})
    assert kept(run) == [0, 1, 3]
    assert run.warnings == [
        "2 rows with label 'b', but 3 are wanted",
        "0 rows with label 'd', but 2 are wanted",
    ]
    with pytest.raises(DataError, match="0 rows with label 'd', but 2 are wanted"):
        run_stage(stage(n={"d": 2}, strict=True, **best), {"rows": LABELLED})
    with pytest.raises(DataError, match="only 2 of the 101 rows that are wanted"):
        run_stage(stage(n={"a": 100, "c": 1}, per="label", min_share=0.1), {"rows": LABELLED[:4]})
    assert stage(n={"a": 2, "b": 3}, **best).most_rows({"rows": 100}) == 5
    assert stage(n={"a": 2, "b": 3}, **best).most_rows({"rows": None}) == 5
    assert stage(n={"a": 2, "b": 3}, strict=True, **best).fewest_rows() == [("n", "rows", 5)]
    assert stage(n=2, **best).most_rows({"rows": 100}) == 100


def test_each_value_has_its_own_threshold(run_stage: Run) -> None:
    sure = {"by": "confidence", "per": "label", "at_least": {"a": 0.8, "b": 0.35}}
    run = run_stage(stage(n=5, **sure), {"rows": LABELLED})
    assert kept(run) == [0, 2, 3, 5, 6]  # c and those without a label have no threshold
    assert run.dropped == {"confidence below that of its label": 2}
    sure["at_least"] = {"a": 0.8, "aa": 0.5}
    run = run_stage(stage(n=5, **sure), {"rows": LABELLED})
    assert "at_least: no row has label 'aa'; did you mean 'a'? allowed: a, b, c" in run.warnings
    both = stage(n={"a": 1, "b": 1}, **sure | {"at_least": {"b": 0.5}})
    run = run_stage(both, {"rows": LABELLED})
    assert kept(run) == [0]
    assert run.warnings == ["0 rows with label 'b', but 1 are wanted"]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": {"a": 1}}, "n: values of which column. set per, such as per: label"),
        ({"n": 1, "at_least": {"a": 0.5}}, "at_least: values of which column. set per"),
        ({"n": {}, "per": "label"}, "n: name at least one value of 'label'"),
        ({"n": {"a": 0}, "per": "label"}, "greater than or equal to 1"),
    ],
)
def test_settings_by_value_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**settings)


def test_a_label_that_cannot_occur_is_said_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "texts.jsonl").write_text('{"id": "a", "text": "b"}\n')
    (tmp_path / "labels.yaml").write_text("[arts, sports]")
    monkeypatch.chdir(tmp_path)
    text = (
        "name: p\n"
        'models: {m: {model_name_or_path: m, engine: {kind: scripted, function: "os.path:join"}}}\n'
        "stages:\n"
        "  texts: {stage: load_dataset, path: texts.jsonl, split: train}\n"
        "  labelled: {stage: label, rows: texts, model: m, labels: labels.yaml}\n"
        "  some: {stage: select, rows: labelled, n: {arts: 3, sports: 4}, per: label}\n"
    )
    (tmp_path / "p.yaml").write_text(text)
    assert load_pipeline("p.yaml")
    for wrong, says in (
        (
            "n: {arts: 3, sport: 4}",
            r"some.n.sport: no row of 'labelled' can have label 'sport'; did",
        ),
        ("n: {arts: 3, sports: many}", r"some.n.sports: .*integer, got 'many'"),
        ("n: 0", r"some.n: .*1.*got 0"),
        ("n: some", r"some.n: .*got 'some'"),
    ):
        (tmp_path / "p.yaml").write_text(text.replace("n: {arts: 3, sports: 4}", wrong))
        with pytest.raises(ConfigError, match=says):
            load_pipeline("p.yaml")


def test_random_depends_on_the_seed_and_the_ids_only(run_stage: Run) -> None:
    many = [{"id": f"r{i}"} for i in range(200)]
    settings = stage(n=100, order="random")
    first = kept(run_stage(settings, {"rows": many}, seed=1))
    assert first == sorted(first)
    assert first == sorted(kept(run_stage(settings, {"rows": many[::-1]}, seed=1)))
    assert first != kept(run_stage(settings, {"rows": many}, seed=2))
    assert 35 < sum(i < 100 for i in first) < 65
    assert settings.is_seeded()
    assert not stage(n=1).is_seeded()


def test_too_few_is_said(run_stage: Run) -> None:
    run = run_stage(stage(n=5, per="task"), {"rows": rows()})
    assert len(run.rows) == 8
    assert run.warnings == [f"4 rows with task '{task}', but 5 are wanted" for task in "ab"]
    with pytest.raises(DataError, match="8 rows, but 9 are wanted; lower n"):
        run_stage(stage(n=9, strict=True), {"rows": rows()})


def test_nulls_go_first(run_stage: Run) -> None:
    run = run_stage(stage(n=2, drop_where_null=["score"]), {"rows": rows()})
    assert kept(run) == [0, 2]
    assert run.dropped == {"no score": 1, "not selected": 5}
    empty = [{"id": "a", "score": None}, {"id": "b", "score": None}]
    with pytest.raises(DataError, match="0 rows, but 1 are wanted"):
        run_stage(stage(n=1, drop_where_null=["score"], strict=True), {"rows": empty})


def test_columns() -> None:
    settings = stage(n=1, order="highest", by="margin", per="task", drop_where_null=["answer"])
    assert settings.required_columns() == {"rows": {"id", "margin", "task", "answer"}}
    assert settings.output_columns({"rows": frozenset({"id"})}) == {"id"}


def test_of_equal_scores_no_strategy_is_favoured(run_stage: Run) -> None:
    """Candidates come in the order of their strategies: the first would always win."""
    many = [
        {"id": f"q{i}-{strategy}", "parent_id": f"q{i}", "strategy": strategy, "score": 0.5}
        for i in range(100)
        for strategy in ("a", "b", "c", "d")
    ]
    run = run_stage(stage(n=1, per="parent_id", order="highest"), {"rows": many})
    chosen = [row["strategy"] for row in run.rows]
    assert all(12 <= chosen.count(strategy) <= 38 for strategy in "abcd")


def test_a_column_without_numbers_is_no_score(run_stage: Run) -> None:
    rows = [{"id": "a", "answer": "7"}, {"id": "b", "answer": None}]
    stage = Select(stage="select", rows="rows", n=1, order="highest", by="answer")
    with pytest.raises(DataError, match=r"row a of 'rows': 'answer' is '7', not a number"):
        run_stage(stage, {"rows": rows})


def test_an_endless_score_is_none(run_stage: Run) -> None:
    rows = [{"id": "a", "score": float("inf")}, {"id": "b", "score": -3.0}]
    stage = Select(stage="select", rows="rows", n=1, order="highest")
    assert [row["id"] for row in run_stage(stage, {"rows": rows}).rows] == ["b"]


@pytest.mark.parametrize(("found", "stops"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_small_part_of_what_is_wanted_stops_the_run(found, stops, run_stage):
    rows = [{"id": str(n)} for n in range(found)]
    stage = Select(stage="select", rows="r", n=100)
    if not stops:
        assert len(run_stage(stage, {"r": rows}).rows) == found
        return
    with pytest.raises(DataError, match=f"only {found} of the 100 rows that are wanted"):
        run_stage(stage, {"r": rows})
    lenient = Select(stage="select", rows="r", n=100, min_share=0)
    assert len(run_stage(lenient, {"r": rows}).rows) == found
