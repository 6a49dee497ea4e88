"""Which rows are shown, and how they are grouped."""

from __future__ import annotations

import re
from collections.abc import Callable

from llm_distill.report.page import render
from llm_distill.report.samples import (
    MOST_CARDS,
    MOST_CHARACTERS,
    MOST_OTHER_ROWS,
    Sample,
    samples,
)
from tests.report.runs import HOSTILE, Made, answer, candidate

MakeRun = Callable[..., Made]


def _sample(made: Made, stage: str) -> Sample:
    return next(sample for sample in samples(made.view) if sample.stage == stage)


def test_exams_come_first_and_each_stage_once(whole_run: Made) -> None:
    found = [(sample.stage, sample.title, len(sample.cards)) for sample in samples(whole_run.view)]
    assert found == [
        ("exam", "exam items", 30),
        ("scores", "scored candidates", 4),
        ("pairs", "preference pairs", 3),
        ("rows", "rows", 1),
    ]


def test_an_item_stands_with_all_answers_and_can_be_filtered_by_what_changed(
    make_run: MakeRun,
) -> None:
    right = {("t0", "a"): True, ("t1", "a"): False, ("t2", "a"): True, ("t3", "a"): False}
    after = {"t0": True, "t1": True, "t2": False, "t3": False}
    rows = [answer(int(t[1]), m, r) for (t, m), r in right.items()]
    rows += [answer(int(t[1]), "b", r) for t, r in after.items()]
    made = make_run()
    made.stage("exam", "evaluate", rows)
    sample = _sample(made, "exam")
    assert [sorted(card.marks) for card in sample.cards] == [
        [], ["differ", "gained-0"], ["differ", "lost-0"], [],
    ]  # fmt: skip
    assert dict(sample.filters)["gained-0"] == "gained, 0-shot: a wrong, b right"
    assert [entry.verdict for entry in sample.cards[1].entries] == ["wrong", "right"]
    assert [entry.label for entry in sample.cards[1].entries] == ["a, 0-shot", "b, 0-shot"]


def test_candidates_stand_by_score_with_what_was_preferred(whole_run: Made) -> None:
    sample = _sample(whole_run, "scores")
    entries = sample.cards[0].entries
    assert [(e.label, e.score, e.verdict) for e in entries] == [
        ("bare", 0.25, "chosen"),
        ("long", 0.0, "rejected"),
    ]
    assert [card.marks for card in sample.cards] == [{"pair"}, {"pair"}, {"pair"}, set()]
    assert sample.cards[3].entries[0].label == HOSTILE


def test_a_stage_that_only_passes_scores_on_is_not_a_second_list_of_candidates(
    make_run: MakeRun,
) -> None:
    made = make_run()
    made.stage("scores", "score_in_context", [candidate(0, "long", 0.5)])
    made.stage("kept", "select", [candidate(0, "long", 0.5)], ("scores",))
    assert _sample(made, "scores").title == "scored candidates"
    assert _sample(made, "kept").title == "rows"


def test_of_many_rows_a_spread_is_shown_and_of_a_long_text_its_beginning(make_run: MakeRun) -> None:
    made = make_run()
    n = MOST_CARDS + 100
    made.stage("exam", "evaluate", [answer(i, "m", True) for i in range(n)])
    made.stage("rows", "other", [{"id": str(i), "text": "x" * 9000} for i in range(n)])
    exam, rows = _sample(made, "exam"), _sample(made, "rows")
    assert (len(exam.cards), exam.n_total) == (MOST_CARDS, n)
    assert (exam.cards[0].id, exam.cards[-1].id) == ("t0", f"t{n - 1}")
    assert (len(rows.cards), rows.n_total) == (MOST_OTHER_ROWS, n)
    page = render(made.view)
    assert max(map(len, re.findall("x+", page))) == MOST_CHARACTERS - 300
    assert f"{9000 - MOST_CHARACTERS:,} more characters in the artifact." in page


def test_candidates_without_a_score_stand_last_whatever_the_scores_are(make_run: MakeRun) -> None:
    rows = [candidate(0, name, score) for name, score in (("a", -2.5), ("b", None), ("c", -0.5))]
    made = make_run()
    made.stage("scores", "score_likely", rows)
    (card,) = _sample(made, "scores").cards
    assert [entry.score for entry in card.entries] == [-0.5, -2.5, None]


def test_a_conversation_is_shown_turn_by_turn(make_run: MakeRun) -> None:
    call = '[{"function": {"name": "weather", "arguments": {"city": "Oslo"}}}]'
    turns = [
        {"role": "user", "content": "Weather?", "tool_calls": None, "reasoning_content": None},
        {"role": "assistant", "content": "", "tool_calls": call, "reasoning_content": "A tool."},
    ]
    made = make_run()
    made.stage("talks", "load_dataset", [{"id": "a", "messages": turns}])
    (card,) = _sample(made, "talks").cards
    assert [(entry.label, entry.text) for entry in card.entries] == [
        ("user", "Weather?"),
        ("assistant, thinking", "A tool."),
        ("assistant", 'weather({"city": "Oslo"})'),
    ]


def test_pairs_of_conversations_are_shown(make_run: MakeRun) -> None:
    def said(role: str, text: str) -> list[dict[str, str]]:
        return [{"role": role, "content": text}]

    row = {"id": "a", "prompt": said("user", "Hi"), "chosen": said("assistant", "Hello")}
    made = make_run()
    made.stage("pairs", "load_dataset", [{**row, "rejected": said("assistant", "No")}])
    (card,) = _sample(made, "pairs").cards
    assert [(text.label, text.text) for text in card.head] == [("user", "Hi")]
    assert [(e.label, e.text, e.verdict) for e in card.entries] == [
        ("assistant", "Hello", "chosen"),
        ("assistant", "No", "rejected"),
    ]


def test_a_dialogue_is_a_chat_of_its_speakers(make_run: MakeRun) -> None:
    def turn(role: str, text: str, name: str) -> dict[str, str]:
        return {"role": role, "content": text, "name": name}

    row = {"id": "a", "question": "2 + 2?", "reference_answer": "4", "profile": "shy"}
    talk = {
        **row,
        "messages": [
            turn("user", "Five.", "pupil"),
            turn("assistant", "Why?", "tutor"),
            turn("user", "Fo", "pupil"),
        ],
        "speakers": ["pupil", "tutor", "pupil"],
        "acts": [None, "probing", None],
        "finish_reasons": [None, "stop", "length"],
        "n_turns": 2,
        "stop_reason": "turns",
        "error": None,
    }
    made = make_run()
    made.stage("rows", "load_dataset", [row])
    failed = {"messages": [], "speakers": [], "acts": [], "finish_reasons": [], "n_turns": 0}
    bad = {**talk, **failed, "id": "b", "stop_reason": "error", "error": "no reply"}
    made.stage("talks", "simulate_dialogue", [talk, bad], ("rows",))
    made.stage("kept", "select", [talk], ("talks",))
    sample = _sample(made, "talks")
    assert sample.title == "dialogues"
    card, failed_card = sample.cards
    assert [(e.label, e.tag, e.side, e.notes) for e in card.entries] == [
        ("pupil", "", "left", ("given",)),
        ("tutor", "probing", "right", ()),
        ("pupil", "", "left", ("truncated",)),
    ]
    assert card.is_chat
    assert [(text.label, text.is_folded) for text in card.head] == [
        ("question", False),
        ("reference_answer", False),
        ("end", False),
        ("profile", True),
    ]
    assert card.head[2].text == "turns: no turn is left, after 2 new turns"
    assert (failed_card.entries, failed_card.head[2].error) == ((), "no reply")
    assert dict(sample.filters) == {"turns": "ends: no turn is left", "error": "ends: an error"}
    assert [card.marks for card in sample.cards] == [{"turns"}, {"error"}]
    (kept,) = _sample(made, "kept").cards
    assert [e.label for e in kept.entries if e.text == "Why?"] == ["tutor"]
    render(made.view)
