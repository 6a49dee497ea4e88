"""The page: what it says, that it loads nothing, and that untrusted text stays text."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from llm_distill.report import plots
from llm_distill.report.page import render
from llm_distill.runtime.record import StageRecord
from tests.report.runs import HOSTILE, Made, Page, answer, result

MakeRun = Callable[..., Made]


def test_it_says_what_a_run_gave(whole_page: str) -> None:
    text = " ".join(Page(whole_page).text.split())
    for part in (
        "made done",
        "30.0% → 60.0%",
        "+30.0 points (+20.0 to +40.0)",
        "60.0% (50.0% to 70.0%)",
        "60 rows",
        "1,234 tokens",
        "cost 0.50",
        "7.0 s",
        "6 stages ran",
        "torch",
        "score 0.250",
        "teacher: reward margin",
        "pairs: margin of chosen over rejected",
        "1 of 7 rows have no score.",
        "items found by 8 words in a row",
        "Accuracy by skills, 0-shot",
    ):
        assert part in text, part


def test_untrusted_text_is_escaped(whole_page: str) -> None:
    page = Page(whole_page)
    assert page.text.count(HOSTILE) >= 8
    assert len(page.attributes("script")) == 1
    assert not page.attributes("img")
    assert whole_page.count("<script") == 1


def test_it_loads_nothing_and_lets_only_its_own_script_run(whole_page: str) -> None:
    page = Page(whole_page)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"link", "img", "iframe", "object", "embed", "form", "base"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name in ("style", "src") for name in attributes)
        assert str(attributes.get("href") or "#").startswith("#")
    (policy,) = (m["content"] for m in page.attributes("meta") if "http-equiv" in m)
    assert str(policy).startswith("default-src 'none'")
    for tag in ("script", "style"):
        (own,) = re.findall(rf"<{tag}>(.*?)</{tag}>", whole_page, re.DOTALL)
        digest = b64encode(sha256(own.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in str(policy)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_the_same_run_gives_the_same_page(whole_run: Made, whole_page: str) -> None:
    assert render(whole_run.view) == whole_page


def test_without_matplotlib_there_are_tables_and_what_to_install(
    whole_run: Made, whole_page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_plots = Page(whole_page)
    monkeypatch.setattr(plots, "find_spec", lambda name: None)
    page = Page(render(whole_run.view))
    assert len(page.attributes("figure")) == len(with_plots.attributes("figure"))
    assert len(page.attributes("table")) == len(with_plots.attributes("table"))
    assert [svg["class"] for svg in page.attributes("svg")] == ["lanes"]
    assert "pip install 'llm-distill[report]'" in page.text
    assert "pip install" not in with_plots.text


def test_a_run_that_has_failed_shows_why_and_what_there_is(make_run: MakeRun) -> None:
    made = make_run("stages: {a: {stage: toy_rows}, b: {stage: toy_map, rows: a}, c: {stage: x}}")
    made.stage("a", "toy_rows", [{"id": "1", "question": "Who?"}])
    made.record.stages["b"] = StageRecord(state="failed", why=f"stage 'b': {HOSTILE}")
    made.record.stages["c"] = StageRecord()
    made.record.state = "failed"
    text = Page(render(made.view)).text
    assert f"b failed. {HOSTILE}" in text
    assert "logs/b.log" in text
    assert "Who?" in text


def test_a_run_with_nothing_is_a_page(make_run: MakeRun) -> None:
    made = make_run()
    made.record.state = "interrupted"
    page = Page(render(made.view))
    assert "The run was stopped." in page.text
    assert not [a for a in page.attributes("section") if a.get("id") in ("samples", "results")]


def test_an_artifact_that_is_gone_is_named(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("a", "toy_rows", [{"id": "1"}]).rename(made.workspace.root / "elsewhere")
    text = Page(render(made.view)).text
    assert "The artifact of a cannot be shown: it has been removed." in text


def test_unreadable_rows_affect_only_their_own_place(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("good", "toy_rows", [{"id": "1", "question": "Who?"}])
    path = made.stage(
        "bad", "evaluate", [answer(1, "m", True)], (), {"results": [result("m", 0, 1.0)]}
    )
    for file in path.glob("*.arrow"):  # of the same size
        file.write_bytes(b"\xff" * file.stat().st_size)
    text = Page(render(made.view)).text
    assert "its rows cannot be read" in text
    assert "Who?" in text
    assert "100.0%" in text


def test_the_command_that_reproduces_it_names_the_runs_own_file(make_run: MakeRun) -> None:
    made = make_run()
    assert f"llm-distill run {made.record.directory / 'pipeline.yaml'}" in render(made.view)


def test_it_says_how_the_texts_of_teacher_and_student_align(make_run: MakeRun) -> None:
    made = make_run()
    figures = {"n_rows": 1400, "n_chunks": 9000, "share_of_bytes": 0.9876, "examples": [],
               "teacher_tokens_per_chunk": 1.25, "student_tokens_per_chunk": 1.5,
               "dropped": {"longer than max_length": 12}}  # fmt: skip
    made.stage("student", "train_distill", None, (), {"alignment": figures})
    text = " ".join(Page(render(made.view)).text.split())
    wanted = "student1,4009,00098.8%1.251.50longer than max_length: 12"
    assert wanted in text
    made.stage("student", "train_distill", None, (), {"alignment": {"n_rows": "many"}})
    assert "What teacher and student have in common" in Page(render(made.view)).text


def test_malformed_figures_of_other_packages_are_ignored(make_run: MakeRun) -> None:
    made = make_run()
    odd: list[dict[str, Any]] = [
        {"results": "none"},
        {"results": [3, {"model": "m"}]},
        {"results": [{"model": "m", "task": "arc", "metric": "acc", "value": 0.25, "n": 4}]},
        {"results": [result("m", 0, 0.5)], "differences": [{"model": "m"}], "by_x": {}},
        {"results": [{**result("m", 1, 0.5), "pass_at": {"1": 0.5, "4": 0.75}, "majority": 0.6}]},
        {"history": [{"loss": None, "step": 1}, {"loss": 2.5}], "contamination": {"rows": 1}},
    ]
    for index, metrics in enumerate(odd):
        made.stage(f"s{index}", "other", None, (), metrics)
    text = Page(render(made.view)).text
    for part in ("arc", "0.25", "pass@4", "75.0%", "majority", "60.0%"):
        assert part in text
