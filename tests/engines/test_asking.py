from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import count, islice
from pathlib import Path

import pytest

from llm_distill.engines import asking
from llm_distill.engines.asking import complete, score
from llm_distill.engines.base import Completion, Request, SamplingSettings, Score, ScoreRequest
from llm_distill.engines.store.store import CompletionStore, StoredAnswers

GREEDY = SamplingSettings(temperature=0, max_tokens=8)


class Upper:
    """Answers in capitals, `at_once` requests together, the last first."""

    def __init__(self, at_once: int = 3) -> None:
        self.at_once, self.asked, self.read = at_once, [], 0

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        source = iter(requests)
        while batch := list(islice(source, self.at_once)):
            self.read += len(batch)
            for request in reversed(batch):
                self.asked.append(request.id)
                if "bad" in request.prompt:
                    yield Completion(request.id, "", "error", error="no")
                else:
                    yield Completion(request.id, request.prompt.upper(), "stop", 1, 2, cost=0.5)

    def score(self, requests: Iterable[ScoreRequest]) -> Iterator[Score]:
        for request in requests:
            self.asked.append(request.id)
            ranks = (1, request.ranks) if request.ranks else ()
            yield Score(request.id, (1, 2), (-0.1, -0.25), 3, ranks=ranks)

    def close(self) -> None: ...


@pytest.fixture
def stored(tmp_path: Path) -> StoredAnswers:
    return StoredAnswers(CompletionStore(tmp_path / "store.sqlite", print), {"w": 1}, "model")


def requests(prompts: Iterable[str], sampling: SamplingSettings = GREEDY) -> Iterator[Request]:
    for index, prompt in enumerate(prompts):
        yield Request(f"r{index}", prompt, sampling, seed=index)


def run(prompts, engine, stored, sampling=GREEDY):
    came: list[str] = []
    pairs = list(
        complete(
            requests(prompts, sampling), lambda: engine, stored, lambda c, how: came.append(how)
        )
    )
    assert [r.id for r, _ in pairs] == [c.id for _, c in pairs] == [r.id for r, _ in pairs]
    return [completion.text for _, completion in pairs], came


def test_answers_come_in_the_order_of_the_requests(stored):
    texts, came = run("abcdefg", Upper(), stored)
    assert texts == list("ABCDEFG")
    assert came == ["made"] * 7


def test_what_was_answered_before_is_not_asked_again_and_no_engine_is_opened(stored):
    run("abcd", Upper(), stored)

    def closed():
        raise AssertionError("an engine was opened")

    pairs = complete(requests("abcd"), closed, stored, lambda c, how: None)
    assert [c.text for _, c in pairs] == list("ABCD")


def test_only_what_changed_is_asked(stored):
    run("abcd", Upper(), stored)
    engine = Upper()
    texts, came = run("abXd", engine, stored)
    assert texts == list("ABXD")
    assert engine.asked == ["r2"]
    assert sorted(came) == ["made", "reused", "reused", "reused"]


def test_equal_requests_are_asked_once_and_paid_for_once(stored):
    engine = Upper()
    paid = []

    def note(completion, came):
        paid.append(completion.cost if came == "made" else 0)

    pairs = list(complete(requests("aabab"), lambda: engine, stored, note))
    assert [(r.id, c.id, c.text) for r, c in pairs] == [
        (f"r{i}", f"r{i}", text) for i, text in enumerate("AABAB")
    ]
    assert len(engine.asked) == 2
    assert sorted(paid) == [0, 0, 0, 0.5, 0.5]


def test_a_drawn_answer_is_each_requests_own(stored):
    engine = Upper()
    run("aaa", engine, stored, SamplingSettings(temperature=1, max_tokens=8))
    assert sorted(engine.asked) == ["r0", "r1", "r2"]


def test_without_a_store_everything_is_asked():
    engine = Upper()
    assert run("aab", engine, None)[0] == list("AAB")
    assert len(engine.asked) == 3


def test_an_error_is_given_to_all_that_wait_for_it_and_is_asked_again(stored):
    first, second = Upper(), Upper()
    for engine in (first, second):
        assert run(["bad", "bad", "x"], engine, stored)[0] == ["", "", "X"]
    assert sorted(first.asked) == ["r0", "r2"]
    assert second.asked == ["r0"]


def test_what_arrived_before_a_crash_is_kept(stored):
    class Dies(Upper):
        def generate(self, requests):
            yield from islice(super().generate(requests), 4)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        run("abcdefg", Dies(), stored)
    engine = Upper()
    assert run("abcdefg", engine, stored)[0] == list("ABCDEFG")
    assert sorted(engine.asked) == ["r3", "r4", "r6"]


def test_an_endless_stream_is_read_no_further_than_needed(stored):
    engine = Upper()
    prompts = (f"p{i}" for i in count())
    answers = complete(requests(prompts), lambda: engine, stored, lambda c, how: None)
    assert [c.text for _, c in islice(answers, 5)] == ["P0", "P1", "P2", "P3", "P4"]
    assert engine.read <= 6


def test_a_stream_of_known_answers_is_given_as_it_is_read(stored, monkeypatch):
    monkeypatch.setattr(asking, "AHEAD", 10)
    run(["p"], Upper(), stored)
    endless = complete(requests("p" for _ in count()), Upper, stored, lambda c, how: None)
    assert len(list(islice(endless, 35))) == 35


def test_one_slow_answer_does_not_let_the_others_pile_up(monkeypatch):
    monkeypatch.setattr(asking, "AHEAD", 10)

    class SlowFirst(Upper):
        def generate(self, requests):
            held = []
            for request in requests:
                self.read += 1
                if request.id == "r0":
                    held.append(request)
                else:
                    yield Completion(request.id, "", "stop")
            yield from (Completion(request.id, "", "stop") for request in held)

    engine = SlowFirst()
    answers = complete(requests("x" for _ in count()), lambda: engine, None, lambda c, how: None)
    next(answers)
    assert engine.read == 10
    assert [r.id for r, _ in islice(answers, 40)] == [f"r{i}" for i in range(1, 41)]


def test_an_engine_that_loses_a_request_is_found_out(stored):
    class Loses(Upper):
        def generate(self, requests):
            list(requests)
            return iter(())

    with pytest.raises(RuntimeError, match="lost request 'r0'"):
        run("ab", Loses(), stored)


def test_two_requests_with_one_id_are_found_out(stored):
    twice = [Request("same", "a", GREEDY), Request("same", "b", GREEDY)]
    with pytest.raises(ValueError, match="'same' is used twice"):
        list(complete(twice, Upper, stored, lambda c, how: None))


def test_scores_are_kept_as_well(stored):
    asked = [
        ScoreRequest("s0", "a", "b"),
        ScoreRequest("s1", "a", "c"),
        ScoreRequest("s2", "a", "b"),
    ]
    first, second = Upper(), Upper()
    for engine in (first, second):
        pairs = list(score(asked, lambda engine=engine: engine, stored, lambda s, how: None))
        assert [s for _, s in pairs] == [Score(f"s{i}", (1, 2), (-0.1, -0.25), 3) for i in range(3)]
    assert (first.asked, second.asked) == (["s0", "s1"], [])


def test_scores_with_ranks_are_kept_apart_from_those_without(stored):
    plain = ScoreRequest("s", "a", "b")
    engine = Upper()
    for _ in range(2):
        for ranks in (0, 100, 50):
            asked = [replace(plain, ranks=ranks)]
            ((_, found),) = score(asked, lambda: engine, stored, lambda s, how: None)
            wanted = (1, ranks) if ranks else ()
            assert found == Score("s", (1, 2), (-0.1, -0.25), 3, ranks=wanted)
    assert engine.asked == ["s"] * 3


def test_the_key_of_a_score_is_the_same_in_every_version(stored):
    """A change here means that nobody's scores are found any more."""
    assert stored.score_key(ScoreRequest("s", "a", [1, 2]))[0].hex() == (
        "0b9992391d7cb753e3f9b59f670588f4de39df34db5a26e1aad9a4562f28d0fe"
    )
