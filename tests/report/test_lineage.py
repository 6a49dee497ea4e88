"""Rows are followed back to the rows that they were made from, and to their links in the page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llm_distill.report import samples as browser
from llm_distill.report.lineage import Lineage, Place
from llm_distill.report.samples import MOST_OTHER_ROWS, anchors, samples
from tests.report.runs import Made, Page, traced

MakeRun = Callable[..., Made]


def test_a_row_was_made_where_its_id_was_first_there(make_run: MakeRun) -> None:
    lineage = Lineage(traced(make_run()).view)
    row = {"id": "s10-0", "parent_id": "s10"}
    assert lineage.sources("kept", row) == (Place("drafts", "s10-0"),)
    assert lineage.sources("drafts", row) == (Place("seeds", "s10"),)
    assert lineage.sources("seeds", {"id": "s10"}) == ()
    pair = {"id": "question-s10-0-s11-0", "kind": "question"}
    assert lineage.sources("pairs", pair) == (Place("drafts", "s10-0"), Place("drafts", "s11-0"))


def test_the_same_id_in_a_stage_that_is_not_before_it_is_another_row(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("others", "load_dataset", [{"id": "1"}, {"id": "7"}])
    made.stage("trained", "train_sft", None, ("others",))
    made.stage("mine", "load_dataset", [{"id": "1"}])
    made.stage("answers", "generate", [{"id": "1-0", "parent_id": "1"}], ("mine", "trained"))
    lineage = Lineage(made.view)
    assert lineage.sources("answers", {"id": "1-0", "parent_id": "1"}) == (Place("mine", "1"),)
    assert lineage.sources("answers", {"id": "7-0", "parent_id": "7"}) == ()


def test_of_a_text_that_was_split_the_row_before_it_is_the_parent(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("seeds", "load_dataset", [{"id": "s-1"}])
    row = {"id": "s-1-0-2", "parent_id": "s-1-0"}
    made.stage("drafts", "generate", [row], ("seeds",))
    assert Lineage(made.view).sources("drafts", row) == (Place("seeds", "s-1"),)
    assert Lineage(made.view).sources("drafts", {"id": "z-0", "parent_id": "z"}) == ()


def test_rows_that_name_each_other_end(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("a", "other", [{"id": "1", "parent_id": "1"}], ("b",))
    made.stage("b", "other", [{"id": "1", "parent_id": "1"}], ("a",))
    made.stage("c", "other", [{"id": 5, "parent_id": None}], ("gone",))
    lineage = Lineage(made.view)
    lineage.sources("a", {"id": "1", "parent_id": "1"})
    assert lineage.sources("c", {"id": 5, "parent_id": None}) == ()
    assert len(samples(made.view)) == 3


def test_every_row_that_is_shown_leads_back_to_its_seed(make_run: MakeRun) -> None:
    made = traced(make_run())
    shown = samples(made.view)
    names = anchors(shown)
    cards = {names[Place(s.stage, c.rows[0])]: (s.stage, c) for s in shown for c in s.cards}
    for stage, card in cards.values():
        at = stage, card
        while at[1].sources:
            at = cards[names[at[1].sources[0]]]
        assert at[0] == "seeds", (stage, card.id)
    links = {a["href"] for a in Page(_page(made)).attributes("a")}
    sources = {place for _, card in cards.values() for place in card.sources}
    assert len(sources) > 30
    assert {f"#{names[place]}" for place in sources} <= links


def test_a_row_without_an_id_has_a_parent_too(make_run: MakeRun) -> None:
    made = make_run()
    made.stage("seeds", "load_dataset", [{"id": "s1"}])
    made.stage("bare", "other", [{"parent_id": "s1", "text": "so"}], ("seeds",))
    page = Page(_page(made))
    (link,) = (a["href"] for a in page.attributes("a") if str(a["href"]).startswith("#row-"))
    assert link in {f"#{a.get('id')}" for _, a in page.elements}


def test_no_more_ancestors_than_the_limit_are_shown(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "MOST_ANCESTORS", 3)
    made = traced(make_run())
    shown = {sample.stage: sample for sample in samples(made.view)}
    assert len(shown["drafts"].cards) <= MOST_OTHER_ROWS + 3
    page = Page(_page(made))
    ids = {attributes.get("id") for _, attributes in page.elements}
    for link in page.attributes("a"):
        assert str(link["href"]).removeprefix("#") in ids or str(link["href"]).startswith("logs/")


def _page(made: Made) -> str:
    from llm_distill.report.page import render

    return render(made.view)
