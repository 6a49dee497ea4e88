"""Each stage with its inputs, settings and log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from llm_distill.report.logs import MOST_LINES, MOST_LOG_CHARACTERS, stage_logs
from llm_distill.report.page import render
from llm_distill.report.stages_shown import stages_shown
from llm_distill.runtime.record import StageRecord
from tests.report.runs import HOSTILE, Made, Page, traced

MakeRun = Callable[..., Made]


def _log(made: Made, stage: str, text: str) -> Path:
    path = made.record.log_of(stage)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_stage_names_what_it_reads_and_what_reads_it(make_run: MakeRun) -> None:
    made = traced(make_run("stages: {seeds: {stage: load_dataset, path: mine.jsonl}}"))
    shown = {stage.view.name: stage for stage in stages_shown(made.view, {}, Path())}
    assert (shown["kept"].reads, shown["kept"].readers) == (
        ("drafts",),
        ("pairs", "student", "exam"),
    )
    assert (shown["drafts"].added, shown["drafts"].columns) == (
        ("parent_id", "completion"), ("id", "question"),
    )  # fmt: skip
    assert shown["seeds"].settings == "stage: load_dataset\npath: mine.jsonl"


def test_a_page_links_each_stage_to_its_rows_and_log(make_run: MakeRun) -> None:
    made = traced(make_run())
    page = Page(render(made.view))
    links = {str(link["href"]) for link in page.attributes("a")}
    assert "logs/kept.log" in links
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {link[1:] for link in links if link.startswith("#")} <= ids
    assert {link for link in links if not link.startswith("#")} == {"logs/kept.log"}
    assert f"INFO select: red {HOSTILE}" in page.text


def test_a_log_is_found_from_where_the_page_lies(make_run: MakeRun, tmp_path: Path) -> None:
    made = make_run()
    made.stage("a b", "toy_rows", [{"id": "1"}])
    path = _log(made, "a b", "so\n")
    log = stage_logs(made.view)["a b"]
    for folder in (made.record.directory, tmp_path, tmp_path / "deep" / "er"):
        assert (folder / unquote(log.address(folder))).resolve() == path
    assert "logs/a%20b.log" in render(made.view)


def test_of_a_long_log_the_end_is_shown(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("long", "toy_rows", [{"id": "1"}])
    made.stage("wide", "toy_rows", [{"id": "1"}])
    made.stage("quiet", "toy_rows", [{"id": "1"}])
    _log(made, "long", "".join(f"line {n}\n" for n in range(20_000)))
    _log(made, "wide", "x" * 9000 + "end\n")
    _log(made, "quiet", "")
    logs = stage_logs(made.view)
    assert logs["long"].text.splitlines() == [
        f"line {n}" for n in range(20_000 - MOST_LINES, 20_000)
    ]
    assert (len(logs["wide"].text), logs["wide"].text[-3:]) == (MOST_LOG_CHARACTERS, "end")
    assert not logs["long"].is_whole
    assert not logs["wide"].is_whole
    assert "quiet" not in logs


def test_a_reused_stages_log_is_that_of_the_run_that_made_it(make_run: MakeRun) -> None:
    first = make_run(time="1")
    first.stage("a", "toy_rows", [{"id": "1"}])
    path = _log(first, "a", "made here\n")
    second = make_run(time="2")
    artifact = first.record.stages["a"].artifact
    second.record.stages["a"] = StageRecord(state="reused", artifact=artifact)
    second.record.save()
    log = stage_logs(second.view)["a"]
    assert (log.path, log.run, log.is_whole) == (path, "made/1", True)
    assert "../1/logs/a.log" in render(second.view)
