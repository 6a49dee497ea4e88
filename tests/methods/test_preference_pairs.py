"""Pairs against brute force, and ties."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.methods.preference_pairs import (
    Margins,
    Pairing,
    ScoredText,
    candidate_pairs,
    question_pairs,
)

fortieths = st.integers(0, 40).map(lambda n: n / 40)
texts = st.sampled_from(["a", "b", "c", "d ", "d"])


def scored(values: list[tuple[float, str]], name: str = "") -> list[ScoredText]:
    return [ScoredText(f"{name}{i}", score, text) for i, (score, text) in enumerate(values)]


def distinct(*scores: float) -> list[ScoredText]:
    return scored([(score, f"text {i}") for i, score in enumerate(scores)])


@given(
    st.dictionaries(
        st.text("xyz", min_size=1, max_size=3),
        st.lists(st.tuples(fortieths, texts), max_size=5),
        max_size=12,
    ),
    st.sampled_from([0.0, 0.025, 0.1, 0.5]),
    st.integers(0, 5),
)
def test_rationale_pairs_are_a_best_against_a_worst(
    values: dict[str, list[tuple[float, str]]], min_margin: float, seed: int
) -> None:
    groups = {name: scored(members, name) for name, members in values.items()}
    found = candidate_pairs(groups, limit=1000, margins=Margins(min_margin), seed=seed)
    group_of = {member.id: name for name, members in groups.items() for member in members}
    paired = set()
    for pair in found.pairs:
        name = group_of[pair.chosen.id]
        assert group_of[pair.rejected.id] == name
        assert pair.chosen.score == max(member.score for member in groups[name])
        assert pair.rejected.score == min(member.score for member in groups[name])
        assert pair.margin > 0
        assert pair.margin >= min_margin - 1e-9
        assert pair.chosen.text.strip() != pair.rejected.text.strip()
        paired.add(name)
    assert len(paired) == len(found.pairs)
    assert len(found.pairs) + sum(found.dropped.values()) == len(groups)
    for name, members in groups.items():  # what has a clear best and worst is there
        if len(members) < 2 or len({member.text.strip() for member in members}) < len(members):
            continue
        spread = max(m.score for m in members) - min(m.score for m in members)
        assert (name in paired) == (spread > 0 and spread >= min_margin - 1e-9)


@given(
    st.lists(st.tuples(fortieths, texts), max_size=16),
    st.sampled_from([0.1, 0.25, 0.5]),
    st.sampled_from([0.0, 0.1]),
    st.integers(0, 5),
)
def test_question_pairs_against_brute_force(
    values: list[tuple[float, str]], quantile: float, min_margin: float, seed: int
) -> None:
    questions = scored(values)
    found = question_pairs(
        questions, quantile=quantile, limit=1000, margins=Margins(min_margin), seed=seed
    )
    if len(questions) < 4:
        assert (found.pairs, found.dropped) == ([], {"fewer than 4 questions": 1})
        return
    size = max(1, int(len(questions) * quantile))
    in_order = sorted(question.score for question in questions)
    top, bottom = in_order[-size:], in_order[:size]
    clear = [(t, b) for t in top for b in bottom if t - b > 1e-9 and t - b >= min_margin - 1e-9]
    assert len(found.pairs) + found.dropped["identical texts"] == len(clear)
    assert len(found.pairs) + sum(found.dropped.values()) == size * size
    chosen = {pair.chosen.id for pair in found.pairs}
    rejected = {pair.rejected.id for pair in found.pairs}
    assert not chosen & rejected
    assert len(chosen) <= size
    assert len(rejected) <= size
    assert all(pair.chosen.score >= top[0] for pair in found.pairs)
    assert all(pair.rejected.score <= bottom[-1] for pair in found.pairs)
    assert len({(p.chosen.id, p.rejected.id) for p in found.pairs}) == len(found.pairs)


def test_all_scores_equal_gives_no_pair_and_the_counts() -> None:
    groups = {"q1": distinct(0.5, 0.5, 0.5), "q2": distinct(0.0, 0.0)}
    assert candidate_pairs(groups, limit=9, margins=Margins(), seed=0).dropped == {"no margin": 2}
    alike = question_pairs(distinct(*[0.5] * 8), quantile=0.25, limit=9, margins=Margins(), seed=0)
    assert (alike.pairs, alike.dropped) == ([], {"no margin": 4})


def test_min_margin_is_reached_in_spite_of_rounding() -> None:
    groups = {"q": distinct(0.3, 0.2)}  # 0.3 - 0.2 < 0.1 in floating point
    assert len(candidate_pairs(groups, limit=9, margins=Margins(0.1), seed=0).pairs) == 1
    below = candidate_pairs(groups, limit=9, margins=Margins(0.11), seed=0)
    assert below.dropped == {"margin below min_margin": 1}


def test_one_rationale_is_no_pair() -> None:
    found = candidate_pairs({"q": distinct(0.9), "none": []}, limit=9, margins=Margins(), seed=0)
    assert found.dropped == {"fewer than 2 scored candidates": 2}


@pytest.mark.parametrize("n", [4, 5, 7])
def test_few_questions_give_one_at_either_end(n: int) -> None:
    questions = distinct(*[i / 40 for i in range(n)])
    found = question_pairs(questions, quantile=0.25, limit=50, margins=Margins(), seed=0)
    assert [(pair.chosen.id, pair.rejected.id) for pair in found.pairs] == [(str(n - 1), "0")]


@pytest.mark.parametrize("quantile", [0.5, 0.9])
def test_top_and_bottom_do_not_overlap(quantile: float) -> None:
    questions = distinct(0.1, 0.2, 0.3, 0.4, 0.5)
    found = question_pairs(questions, quantile=quantile, limit=99, margins=Margins(), seed=0)
    assert {pair.chosen.id for pair in found.pairs} == {"3", "4"}
    assert {pair.rejected.id for pair in found.pairs} == {"0", "1"}


def test_ties_prefer_no_place() -> None:
    """Four candidates, two of them best: were it always the first, its strategy would win."""
    groups = {f"q{i}": scored([(0.5, "a"), (0.5, "b"), (0.1, "c"), (0.1, "d")], f"q{i}-")
              for i in range(400)}  # fmt: skip
    found = candidate_pairs(groups, limit=400, margins=Margins(), seed=0)
    chosen = Counter(pair.chosen.text for pair in found.pairs)
    rejected = Counter(pair.rejected.text for pair in found.pairs)
    assert set(chosen) == {"a", "b"}
    assert set(rejected) == {"c", "d"}
    assert abs(chosen["a"] - 200) < 60  # 6 standard deviations
    assert abs(rejected["c"] - 200) < 60


def test_the_order_of_the_rows_does_not_matter() -> None:
    members = scored([(0.5, "a"), (0.5, "b"), (0.1, "c"), (0.1, "d")])
    one = candidate_pairs({"q": members}, limit=9, margins=Margins(), seed=4).pairs
    assert candidate_pairs({"q": members[::-1]}, limit=9, margins=Margins(), seed=4).pairs == one
    questions = distinct(*[i % 3 / 40 for i in range(20)])
    settings = {"quantile": 0.25, "limit": 8, "margins": Margins(), "seed": 4}
    pairs = question_pairs(questions, **settings).pairs
    assert len(pairs) == 8
    assert question_pairs(questions[::-1], **settings).pairs == pairs
    assert question_pairs(questions, **{**settings, "seed": 5}).pairs != pairs


def test_limits_use_questions_evenly_and_are_counted() -> None:
    questions = distinct(*[i / 40 for i in range(40)])
    found = question_pairs(questions, quantile=0.25, limit=20, margins=Margins(), seed=0)
    assert set(Counter(pair.chosen.id for pair in found.pairs).values()) == {2}
    assert set(Counter(pair.rejected.id for pair in found.pairs).values()) == {2}
    groups = {f"q{i}": scored([(0.5, "a"), (0.1, "b")], f"q{i}-") for i in range(30)}
    drawn = candidate_pairs(groups, limit=10, margins=Margins(), seed=0)
    assert len(drawn.pairs) == 10
    assert drawn.dropped == {"over the limit": 20}
    assert [p.chosen.id for p in drawn.pairs] != [f"q{i}-0" for i in range(10)]


@given(
    st.dictionaries(
        st.text("xyz", min_size=1, max_size=3),
        st.lists(st.tuples(st.integers(-4, 4), texts), max_size=5),
        max_size=6,
    ),
    st.sampled_from([1e-12, 1.0, 3e7]),
    st.sampled_from(["all", "across_zero"]),
)
def test_every_pair_that_the_rule_allows_in_any_unit(
    values: dict[str, list[tuple[int, str]]], unit: float, pairing: Pairing
) -> None:
    groups = {n: scored([(v * unit, t) for v, t in m], n) for n, m in values.items()}
    found = candidate_pairs(groups, pairing=pairing, limit=10_000, margins=Margins(), seed=0)
    wanted = {
        (a.id, b.id)
        for members in groups.values()
        for a in members
        for b in members
        if a.text.strip() != b.text.strip()
        and (a.score > 0 > b.score if pairing == "across_zero" else a.score > b.score)
    }
    assert {(p.chosen.id, p.rejected.id) for p in found.pairs} == wanted
    assert len(found.pairs) == len(wanted)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_a_quantile_of_margins_drops_the_same_pairs_in_any_unit(unit: float) -> None:
    margins = [1, 2, 3, 4, 5, 0]
    groups = {f"q{m}": scored([(-7 * unit, "a"), ((m - 7) * unit, "b")], f"q{m}-") for m in margins}
    found = candidate_pairs(groups, limit=9, margins=Margins(quantile=0.5), seed=0)
    assert {pair.chosen.id for pair in found.pairs} == {"q3-1", "q4-1", "q5-1"}
    assert found.dropped == {"no margin": 1, "margin below margin_quantile": 2}
    tied = {f"q{i}": scored([(0, "a"), (unit, "b")], f"q{i}-") for i in range(4)}
    all_of_them = candidate_pairs(tied, limit=9, margins=Margins(quantile=0.9), seed=0)
    assert len(all_of_them.pairs) == 4  # nothing tells them apart


def test_a_quantile_of_question_pairs_comes_before_their_limit() -> None:
    questions = distinct(*[float(i) for i in range(8)])
    found = question_pairs(
        questions, quantile=0.25, limit=1, margins=Margins(quantile=0.75), seed=0
    )
    assert [(pair.chosen.id, pair.rejected.id) for pair in found.pairs] == [("7", "0")]


def test_the_best_right_one_against_the_best_wrong_one() -> None:
    def judged(*values: tuple[float, bool]) -> list[ScoredText]:
        return [ScoredText(str(i), s, f"text {i}", right) for i, (s, right) in enumerate(values)]

    groups = {
        "clear": judged((0.2, True), (0.9, True), (0.1, False), (0.7, False)),
        "preferred": judged((-0.5, True), (0.6, False)),
        "all right": judged((0.5, True), (0.6, True)),
        "all wrong": judged((0.5, False), (0.6, False)),
        "single": judged((0.5, True)),
    }
    found = candidate_pairs(
        groups, pairing="best_right_best_wrong", limit=9, margins=Margins(), seed=0
    )
    assert [pair.margin for pair in found.pairs] == [pytest.approx(0.2), pytest.approx(-1.1)]
    assert found.dropped == {
        "no wrong candidate": 1, "no right candidate": 1, "fewer than 2 scored candidates": 1,
    }  # fmt: skip


def test_the_most_pairs_of_a_question_and_of_a_task() -> None:
    groups = {f"q{i}": distinct_of(f"q{i}-", *range(6)) for i in range(20)}
    found = candidate_pairs(groups, pairing="all", limit=30, per_group=4, margins=Margins(), seed=0)
    assert len(found.pairs) == 30
    assert max(Counter(p.chosen.id.split("-")[0] for p in found.pairs).values()) <= 4
    assert found.dropped == {"over the limit of a question": 20 * 11, "over the limit": 50}
    again = {name: members[::-1] for name, members in groups.items()}
    other = candidate_pairs(again, pairing="all", limit=30, per_group=4, margins=Margins(), seed=0)
    assert other.pairs == found.pairs


def distinct_of(name: str, *scores: float) -> list[ScoredText]:
    return scored([(score, f"text {i}") for i, score in enumerate(scores)], name)
