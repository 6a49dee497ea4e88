"""Items found in other texts, against a search through every run of words."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_distill.errors import DataError
from llm_distill.methods.contamination import SeenTexts, check_named, texts_of
from tests.methods.templated import COPIES, FAMILIES, PEOPLE, drawn

WORDS = st.lists(st.sampled_from("abcde"), max_size=9)


def runs(words: list[str], n: int) -> set[tuple[str, ...]]:
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@given(st.lists(WORDS, max_size=5), WORDS, st.integers(1, 4))
def test_every_run_of_words(items: list[list[str]], text: list[str], n: int) -> None:
    expected = set()
    for index, item in enumerate(items):
        others = [other for other in items if other != item]
        # Shorter items count as a whole, and so do runs as long as they are.
        own = {run for run in runs(item, n) if not any(run in runs(o, n) for o in others)}
        if item and (item == text or own & runs(text, n)):
            expected.add(str(index))
    texts = {str(i): " ".join(item) for i, item in enumerate(items)}
    assert set(SeenTexts(texts, n, compare="ngram").found_in(" ".join(text))) == expected


def test_wording_that_items_share_says_nothing() -> None:
    seen = SeenTexts(
        {"a": "Answer the question. How old is Tom?", "b": "Answer the question. Who is Ann?"}, 3
    )
    assert seen.found_in("Answer the question. What is it?") == {}
    assert seen.found_in("Well, how old is Ann?") == {"a": "ngram"}
    assert seen.found_in("ANSWER the question, who is Ann") == {"b": "whole"}


def test_equal_items_are_all_found() -> None:
    seen = SeenTexts({"a": "How old is Tom?", "b": "how old is Tom"}, 3)
    assert set(seen.found_in("Say how old is Tom now")) == {"a", "b"}


def test_all_texts_of_a_row() -> None:
    row = {"id": "q", "n": 3, "none": None, "skills": ["s", "t"],
           "messages": [{"role": "user", "content": "hi"}]}  # fmt: skip
    assert list(texts_of(row)) == ["q", "s", "t", "user", "hi"]


def found(seen: SeenTexts, texts: list[str]) -> float:
    return sum(bool(seen.found_in(text)) for text in texts) / len(texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_templated_task_is_not_emptied_and_copies_are_found(family: str) -> None:
    made = drawn(family, 200, seed=1)
    test, new = dict(enumerate(made[:100])), made[100:]
    texts = {str(i): text for i, text in test.items()}
    assert found(SeenTexts(texts, 13, compare="ngram"), new) > 0.6
    seen = SeenTexts(texts, 13)
    assert seen.compared[""].comparison == "near"
    assert seen.compared[""].alike > 0.5
    assert found(seen, new) <= 0.15
    draw = random.Random(0)
    for kind, copy in COPIES.items():
        hits = sum(str(i) in seen.found_in(copy(text, draw)) for i, text in test.items())
        assert hits >= (55 if kind == "cut" else 90 if kind == "reworded" else 100), kind
    whole = SeenTexts(texts, 13, compare="whole")
    assert found(whole, new) == 0
    for kind in ("respelled", "wrapped"):
        assert all(str(i) in whole.found_in(COPIES[kind](t, draw)) for i, t in test.items())


def test_each_task_has_its_own_comparison() -> None:
    made = {f"m{i}": text for i, text in enumerate(drawn("tracking", 30, seed=2))}
    own = {
        "a": "One day a farmer with seven cows met his old friend on the road to the market",
        "b": "The museum in the north of the city shows two hundred paintings by young artists",
    }
    tasks = dict.fromkeys(made, "balls") | dict.fromkeys(own, "prose")
    seen = SeenTexts(made | own, 13, tasks)
    assert seen.compared["balls"].comparison == "near"
    assert seen.compared["prose"].comparison == "ngram"
    part = own["a"].partition(" ")[2].replace("market", "fair")
    assert seen.found_in(f"He said: {part}") == {"a": "ngram"}
    asked = SeenTexts(made | own, 13, tasks, {"prose": "whole"})
    assert asked.found_in(f"He said: {part}") == {}
    assert asked.found_in(f"He said: {own['a']}!") == {"a": "whole"}
    assert asked.compared["prose"].why(13).startswith("compare says so")
    check_named({"prose": "whole"}, seen.compared)
    with pytest.raises(DataError, match="'pros' is no task .*did you mean 'prose'"):
        check_named({"pros": "whole"}, seen.compared)


def test_one_question_that_is_there_twice_is_not_a_template() -> None:
    text = "One day a farmer with seven cows met his old friend on the road to the {} market"
    seen = SeenTexts({place: text.format(place) for place in ("big", "small")}, 13)
    assert seen.compared[""].comparison == "ngram"
    many = ("big", "small", "old", "new")
    pairs = {p: f"{text.format(p)} {p} words so that it is longer" for p in many}
    assert SeenTexts(pairs, 13).compared[""].comparison == "ngram"  # all share the same n-grams


def test_texts_that_are_as_alike_as_copies_are_compared_as_a_whole() -> None:
    """Only the order of two words tells one from another: all runs of three are in every text."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices("ab", k=80)) for _ in range(61)]
    seen = SeenTexts({str(i): text for i, text in enumerate(texts[1:], 1)}, 13)
    assert seen.compared[""].comparison == "whole"
    assert seen.compared[""].why(13).endswith("are as alike as copies")
    assert seen.found_in(f"Say: {texts[1]}") == {"1": "whole"}
    assert seen.found_in(texts[0]) == seen.found_in(texts[1][10:]) == {}


def test_a_prompt_with_other_questions_of_the_task_holds_no_copy() -> None:
    """Together they have most of what a question has, but nowhere in one place."""
    made = drawn("deduction", 130, seed=3)
    seen = SeenTexts({str(i): text for i, text in enumerate(made[:100])}, 13)
    shown = [text for text in made[100:] if not seen.found_in(text)]
    assert len(shown) > 25
    assert seen.found_in(" ".join(shown)) == {}
    assert "7" in seen.found_in(" ".join([*shown, made[7]]))


def test_another_number_is_another_question() -> None:
    made = drawn("numbers", 60, seed=5)
    long = [
        f"{text} {' '.join(PEOPLE)} wait for the answer." for text in made
    ]  # a number is little
    seen = SeenTexts({str(i): text for i, text in enumerate(long)}, 13)
    assert seen.compared[""].comparison == "near"
    last = re.compile(r"\d+(?=\D*$)")
    others = [last.sub("77", text) for text in long]
    assert found(seen, others) == 0
    assert found(seen, [text.replace("the answer", "an answer") for text in long]) == 1
