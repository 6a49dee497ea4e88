"""Requests among replicas: all are answered, once, and those of a lost one elsewhere."""

from __future__ import annotations

from collections import Counter, deque

import pytest

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.replicas.sharing import Lost, Sharing


def request(number: int, prompt: str | None = None) -> Request:
    return Request(str(number), prompt or f"{number}?", SamplingSettings())


class Replicas:
    """Answers the oldest request of each in turn. dies: by replica, after how many answers."""

    def __init__(self, n: int, dies: dict[int, int] | None = None) -> None:
        self.queues = {number: deque[Request]() for number in range(n)}
        self.dies, self.answered = dies or {}, Counter[int]()
        self.asked = Counter[str]()
        self.places: dict[int, list[str]] = {number: [] for number in range(n)}
        self.most = 0

    def ready(self):
        return list(self.queues)

    def give(self, replica, requests):
        for each in requests:
            self.asked[each.id] += 1
            self.places[replica].append(each.id)
        self.queues[replica].extend(requests)
        self.most = max(self.most, len(self.queues[replica]))

    def wait(self):
        for number, queue in list(self.queues.items()):
            if self.dies.get(number) == self.answered[number]:
                del self.queues[number]
                yield number, Lost()
            elif queue:
                self.answered[number] += 1
                yield number, [Completion(queue.popleft().id, "yes", "stop")]


def test_each_request_is_answered_once():
    pool = Replicas(3)
    found = [a.id for a in Sharing(pool, 4).answers(request(n) for n in range(100))]
    assert sorted(found, key=int) == [str(n) for n in range(100)]
    assert set(pool.asked.values()) == {1}
    assert pool.most <= 4
    assert all(len(ids) > 20 for ids in pool.places.values())


def test_what_a_lost_replica_had_is_asked_of_another():
    pool = Replicas(2, dies={0: 10})
    found = Counter(a.id for a in Sharing(pool, 8).answers(request(n) for n in range(100)))
    assert found == Counter(str(n) for n in range(100))
    twice = [name for name, n in pool.asked.items() if n == 2]
    assert 0 < len(twice) <= 8


def test_requests_with_one_beginning_go_to_one_replica():
    pool = Replicas(4)
    prompts = [f"document {n // 6}" for n in range(96)]
    requests = [request(n, prompt) for n, prompt in enumerate(prompts)]
    list(Sharing(pool, 200).answers(requests))
    for ids in pool.places.values():
        documents = Counter(int(name) // 6 for name in ids)
        assert set(documents.values()) == {6}


def test_no_more_is_read_than_replicas_take():
    read: list[int] = []

    def source():
        for n in range(1000):
            read.append(n)
            yield request(n)

    answers = Sharing(Replicas(2), 5).answers(source())
    next(answers)
    assert len(read) <= 10


def test_nothing_gives_nothing():
    assert list(Sharing(Replicas(2), 5).answers([])) == []


@pytest.mark.parametrize("n", [1, 2])
def test_it_can_be_asked_again(n):
    sharing = Sharing(Replicas(n), 3)
    for _ in range(2):
        assert len(list(sharing.answers(request(i) for i in range(7)))) == 7
