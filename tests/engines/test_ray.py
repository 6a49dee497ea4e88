"""Copies of an engine on a cluster of two local nodes."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import pytest

from llm_distill.engines.base import Request, SamplingSettings, ScoreRequest
from llm_distill.engines.budget import Budget
from llm_distill.engines.ray.settings import RaySettings
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

STUDENT = Path(__file__).parents[2] / "data" / "models" / "tiny-student"


def reply(request: Request) -> str:
    """Notes that it was asked, in the file that the second line of the prompt names."""
    text, _, log = str(request.prompt).partition("\n")
    if log:
        with Path(log).open("a") as lines:
            lines.write(f"{request.id}\n")
        time.sleep(0.02)
    return f"{text} {request.seed}"


def fail(request: Request) -> str:
    raise ModelError("there is no answer")


def settings(cluster, function="reply", **others) -> RaySettings:
    inner = {"kind": "scripted", "function": f"tests.engines.test_ray:{function}"}
    return RaySettings(kind="ray", engine=inner, address=cluster.address, **others)


def engine(cluster, **others):
    return settings(cluster, **others).open(ModelSource("m", "m"), Budget(None))


def requests(n: int, log: Path | None = None):
    more = f"\n{log}" if log else ""
    return (Request(str(i), f"What is {i}?{more}", SamplingSettings(), i) for i in range(n))


def test_all_copies_answer_and_the_rows_are_those_of_one(cluster, tmp_path):
    opened = engine(cluster, replicas=3)
    try:
        found = {a.id: a.text for a in opened.generate(requests(200))}
        assert found == {str(i): f"What is {i}? {i}" for i in range(200)}
        assert len(list(opened.generate(requests(5)))) == 5
    finally:
        opened.close()


def test_a_lost_node_loses_nothing(cluster, tmp_path):
    log, in_flight = tmp_path / "asked", 16
    opened = engine(cluster, replicas=4, max_concurrency=in_flight)
    try:
        found: Counter[str] = Counter()
        for number, answer in enumerate(opened.generate(requests(300, log))):
            found[answer.id] += 1
            if number == 60:
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)
    finally:
        opened.close()
    assert found == Counter(str(i) for i in range(300))
    asked = Counter(log.read_text().split())
    twice = sum(n - 1 for n in asked.values())
    assert set(asked) == set(found)
    assert 0 < twice <= 2 * in_flight  # of the two copies on that node


@pytest.mark.exhaustive
def test_a_real_model_answers_and_scores_as_in_process(cluster):
    """On two nodes, one of which is lost on the way."""
    source = ModelSource("student", str(STUDENT), prompt_format="text")
    inner = TransformersSettings(kind="transformers", batch_size=4)
    said = SamplingSettings(temperature=1.0, max_tokens=12)
    asked = [Request(str(i), f"Question: {i} + 3?\nAnswer:", said, seed=i) for i in range(40)]
    scored = [ScoreRequest(a.id, str(a.prompt), " 3 + 3 = 6.", ranks=5, top_k=2) for a in asked]
    alone = inner.open(source, Budget(None))
    expected = {
        a.id: (a.text, a.finish_reason, a.n_completion_tokens) for a in alone.generate(asked)
    }
    scores = {s.id: s for s in alone.score(scored)}
    alone.close()
    shared = RaySettings(
        kind="ray", engine=inner.model_dump(), address=cluster.address, replicas=4,
        max_concurrency=4,
    ).open(source, Budget(None))  # fmt: skip
    try:
        found = {}
        for number, a in enumerate(shared.generate(asked)):
            found[a.id] = (a.text, a.finish_reason, a.n_completion_tokens)
            if number == 3:
                cluster.remove_node(cluster.nodes[0], allow_graceful=False)
        assert found == expected
        again = {s.id: s for s in shared.score(scored)}
    finally:
        shared.close()
    assert again.keys() == scores.keys()
    for name, score in again.items():
        assert score.error is None
        assert (score.token_ids, score.ranks) == (scores[name].token_ids, scores[name].ranks)
        assert score.logprobs == pytest.approx(scores[name].logprobs, abs=1e-4)
        assert score.top_ids == scores[name].top_ids


def test_an_engines_error_is_the_users(cluster):
    opened = engine(cluster, function="fail", replicas=2)
    try:
        with pytest.raises(ModelError, match="there is no answer"):
            list(opened.generate(requests(5)))
    finally:
        opened.close()


@pytest.mark.exhaustive
def test_a_copy_that_cannot_be_opened_says_on_which_node(cluster):
    with pytest.raises(Exception, match=r"on node \d+.*no_such_function"):
        engine(cluster, function="no_such_function")


@pytest.mark.exhaustive
def test_a_cluster_without_room_is_told(cluster, monkeypatch):
    from llm_distill.engines.ray import engine as of_ray

    monkeypatch.setattr(of_ray, "SECONDS_TO_COME", 3.0)
    with pytest.raises(ModelError, match="room for 0 of 1 copies.*CPU: 16 each; it has CPU: 4"):
        engine(cluster, num_cpus=16)


@pytest.mark.exhaustive
def test_more_copies_come_as_there_is_room(cluster):
    opened = engine(cluster, replicas=[1, 6])  # room for four
    try:
        assert len(list(opened.generate(requests(50)))) == 50
    finally:
        opened.close()


def test_an_address_that_does_not_answer():
    with pytest.raises(ModelError, match="no cluster answers at 127.0.0.1:9: .*; start one"):
        RaySettings(
            kind="ray",
            engine={"kind": "scripted", "function": "a:b"},
            address="127.0.0.1:9",
        ).open(ModelSource("m", "m"), Budget(None))
