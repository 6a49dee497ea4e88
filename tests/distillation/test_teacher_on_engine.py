"""A teacher on a server that is asked in each step says what the same teacher in memory says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from aiohttp import web
from pydantic import ValidationError

from llm_distill.distillation.teacher.on_engine import TeacherOnEngine
from llm_distill.engines.base import Score
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai import waiting
from llm_distill.engines.openai.engine import OpenAIEngine
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import BudgetError, LLMDistillError, ModelError
from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.paths import bundled_root
from llm_distill.stages.train_distill import TrainDistill
from tests.distillation.cuts import cut_after
from tests.engines.loopback import Call, Loopback, cut_in_the_middle, refuse, say
from tests.engines.scoring_server import ScoringServer

MODELS = bundled_root() / "data/models"
TEACHER = ModelSource("t", str(MODELS / "tiny-teacher"), prompt_format="text")
STUDENT = ModelSource("s", str(MODELS / "tiny-student"), prompt_format="text")
SERVED = ModelSource("t", "served-model", prompt_format="text", tokenizer=TEACHER)
SETTINGS: dict[str, Any] = {
    "alm": {"debias": False, "temperature": 100},
    "rollouts": {"max_tokens": 24},
    "max_length": 256,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "on_collapse": "ignore",
    "max_steps": 2,
    "per_device_train_batch_size": 3,
    "gradient_accumulation_steps": 2,
}


def stage(**settings: Any) -> TrainDistill:
    given = {"stage": "train_distill", "model": "s", "teacher": "t", "rows": "r"}
    return TrainDistill(**{**given, "online": "engine", **SETTINGS, **settings})


@pytest.fixture(scope="module")
def answering() -> ScoringServer:
    return ScoringServer(TEACHER)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, answering: ScoringServer) -> Iterator[Loopback]:
    for name in ("http_proxy", "HTTP_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(waiting, "FIRST_BACKOFF", 0.001)
    made = Loopback()
    made.answer = answering
    yield made
    made.close()


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    lines = (bundled_root() / "data/word_problems/train.jsonl").read_text().splitlines()[:6]
    read = map(json.loads, lines)
    return [
        {
            "id": row["id"],
            "prompt": f"Question: {row['question']}\nAnswer:",
            "completion": "It is 4.",
        }
        for row in read
    ]


@pytest.fixture
def train(run_stage, tmp_path, server):
    """Runs a stage whose teacher is on the server; or in memory, with `online: true`."""

    def run(
        made: TrainDistill, rows, *, budget=None, work_dir=None, served=SERVED, held=None, **engine
    ):
        def opened() -> OpenAIEngine:
            settings = OpenAISettings(kind="openai", base_url=server.url, timeout=20, **engine)
            return OpenAIEngine(settings, served, Budget(budget))

        folder = work_dir or tmp_path / f"run {len(list(tmp_path.iterdir()))}"
        models = {"s": STUDENT, "t": served if made.online == "engine" else TEACHER}
        given = {"r": rows, **({"e": held} if held else {})}
        return run_stage(made, given, models=models, engines={"t": opened}, work_dir=folder)

    return run


def weights(run) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(next(run.model.directory.glob("*.safetensors")))


def asked(server: Loopback) -> list[Call]:
    """The requests for likelihoods, without the probes'."""
    return [call for call in server.calls if "allowed_token_ids" in call.body][2:]


@pytest.mark.parametrize(
    ("losses", "share"), [({"alm": 1.0}, 1), ({"opd": 1.0}, 1), ({"alm": 1.0, "sft": 0.5}, 0.5)]
)
def test_the_losses_are_those_of_the_teacher_in_memory(losses, share, train, rows, server):
    rollouts = {"share": share, **SETTINGS["rollouts"]}
    served, here = (
        train(stage(online=online, losses=losses, rollouts=rollouts), rows, price=price)
        for online, price in (("engine", {"input": 1, "output": 1}), (True, None))
    )
    for one, other in zip(served.metrics["history"], here.metrics["history"], strict=True):
        for name in losses:
            assert one[name] == pytest.approx(other[name], abs=1e-5)
        assert one["rollouts/left_out"] == other["rollouts/left_out"] == 0
    for name, expected in weights(here).items():
        torch.testing.assert_close(weights(served)[name], expected, rtol=1e-3, atol=1e-4)
    assert len(asked(server)) == 12  # each text of both steps, once
    assert served.context.cost > 0
    assert served.context.completions == {"made": 13}


def test_accumulation_does_not_change_the_result(train, rows):
    found = []
    for size, times in ((6, 1), (1, 6)):
        batches = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        found.append(train(stage(losses={"opd": 1.0}, **batches), rows))
    one, other = (run.metrics["history"] for run in found)
    for name in ("loss", "opd", "grad_norm"):
        assert [p[name] for p in one] == pytest.approx([p[name] for p in other], rel=1e-3)


def test_rows_that_are_held_out_are_asked_about_as_they_are(train, rows, server):
    held = [{**row, "id": f"e{row['id']}"} for row in rows[:3]]
    settings = {"losses": {"alm": 1.0}, "eval_rows": "e", "max_steps": 1}
    served, here = (
        train(stage(online=online, **settings), rows, held=held) for online in ("engine", True)
    )
    before, also = (
        [point["eval_loss"] for point in run.metrics["history"] if "eval_loss" in point]
        for run in (served, here)
    )
    assert before
    assert before == pytest.approx(also, abs=1e-5)


def test_resumed_is_the_same_as_never_cut(train, rows, tmp_path):
    made = stage(losses={"alm": 1.0}, max_steps=3, save_steps=1)
    whole = train(made, rows, work_dir=tmp_path / "whole")
    with cut_after(2):
        train(made, rows, work_dir=tmp_path / "cut")
    resumed = train(made, rows, work_dir=tmp_path / "cut")
    assert resumed.metrics["resumed_from_step"] == 1
    assert resumed.metrics["history"] == whole.metrics["history"]
    expected, found = weights(whole), weights(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_a_server_that_stumbles_is_asked_again(train, rows, server):
    whole = train(stage(losses={"alm": 1.0}), rows)
    server.faults.extend([refuse(429), cut_in_the_middle, refuse(500)])
    again = train(stage(losses={"alm": 1.0}), rows)
    assert again.metrics["history"] == whole.metrics["history"]


class Odd:
    """A server that answers the n-th request for likelihoods, and those after it, otherwise."""

    def __init__(self, good: ScoringServer, bad: Any, first: int, until: int = 10**6) -> None:
        self._good, self._bad, self._which = good, bad, range(first, until)
        self._n = 0

    async def __call__(self, call: Call) -> web.StreamResponse:
        self._n += 1
        if self._n in self._which:
            return await self._bad(call)
        return await self._good(call)


AFTER_THE_PROBE = 4  # a text, its ids, and the ids of what is asked first


def test_a_server_that_fails_later_stops_it_in_one_message(train, rows, server, answering):
    server.answer = Odd(answering, refuse(503), AFTER_THE_PROBE + 7)
    with pytest.raises(ModelError) as raised:
        train(stage(losses={"alm": 1.0}), rows, max_attempts=1)
    said = str(raised.value)
    assert "teacher 't' gives no likelihoods of a text (step 2, row '" in said
    assert "goes on from its last checkpoint" in said


def test_a_text_without_likelihoods_counts_for_nothing(train, rows, server, answering):
    """Its loss is that of the others, and the reason is told once."""
    impossible = ScoringServer(TEACHER)

    async def gives_none(call: Call) -> web.StreamResponse:
        found = json.loads((await impossible(call)).body)
        for place in found["choices"][0]["prompt_logprobs"][1:]:
            for entry in place.values():
                entry["logprob"] = -9999.0  # vLLM's minus infinity
        return web.json_response(found)

    one = {"max_steps": 1, "per_device_train_batch_size": 6, "gradient_accumulation_steps": 1}
    server.answer = Odd(answering, gives_none, AFTER_THE_PROBE + 1, AFTER_THE_PROBE + 2)
    run = train(stage(losses={"alm": 1.0}, **one), rows, max_concurrency=1)
    (warning,) = run.warnings
    assert "step 1, row '" in warning
    assert "no probability at all" in warning
    (point,) = run.metrics["history"]
    assert point["rollouts/left_out"] == pytest.approx(1 / 6)
    assert point["loss"] > 0
    server.answer = Odd(answering, gives_none, AFTER_THE_PROBE)
    with pytest.raises(ModelError, match=r"no likelihoods of any text; step 1, row .* at all"):
        train(stage(losses={"alm": 1.0}, **one), rows)


def answers(found: Any) -> Any:
    return say(json.dumps(found))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"tokenizer": "student"}, "another tokenizer than .*tiny-teacher"),
        ({"cut": 3}, "its server read 3: it cuts texts"),
        ({"processed": True}, "--logprobs-mode raw_logprobs"),
    ],
)
def test_a_server_of_no_use_is_found_before_the_training(
    other, message, train, rows, server, monkeypatch
):
    if "tokenizer" in other:
        other = {"tokenizer": load_tokenizer(STUDENT)}
    server.answer = ScoringServer(TEACHER, **other)
    monkeypatch.setattr("llm_distill.training.train.train", None)  # which is not come to
    with pytest.raises(ModelError, match=message):
        train(stage(losses={"alm": 1.0}), rows)


def test_a_server_without_prompt_logprobs_is_found_before_the_training(
    train, rows, server, monkeypatch
):
    monkeypatch.setattr("llm_distill.training.train.train", None)
    server.answer = answers({"choices": [{"text": "x", "index": 0}]})
    with pytest.raises(ModelError, match="no log-probabilities of given texts"):
        train(stage(losses={"alm": 1.0}), rows)


def test_texts_that_the_server_cuts_are_told(train, rows, server):
    server.answer = ScoringServer(TEACHER, cut=50)  # the probe has 45 tokens
    for row in rows:
        row["prompt"] = "Think of it. " * 12 + row["prompt"]
    with pytest.raises(ModelError, match="its server read 50: it cuts texts; start it with"):
        train(stage(losses={"alm": 1.0}), rows)


def test_what_it_may_cost_is_held(train, rows):
    price = {"input": 1e6, "output": 1e6}
    with pytest.raises(BudgetError, match="A higher --max-cost goes on from here"):
        train(stage(losses={"alm": 1.0}), rows, budget=500.0, price=price)


def test_a_template_that_refuses_the_texts_is_told(train, rows):
    """Which the teacher's own reading of the rows finds, before anything is asked."""
    refusing = "{{ raise_exception('only even turns') }}"
    chat = replace(TEACHER, prompt_format="chat", chat_template=refusing)
    served = replace(SERVED, prompt_format="chat", tokenizer=chat)
    with pytest.raises(LLMDistillError, match="only even turns"):
        train(stage(losses={"alm": 1.0}), rows, served=served)


def test_nothing_is_asked_about_a_text_without_tokens():
    texts = [([1, 2, 3], [1, 2]), ([4, 5], [1]), ([6], [])]
    named = [((np.array(i, np.int32), np.array(at, np.int64)), str(i)) for i, at in texts]
    asked = []

    def ask(requests, *, total):
        asked.extend(requests)
        assert total == len(requests)
        for request in requests:
            logps = tuple(-float(token) for token in request.completion)
            yield request, Score(request.id, tuple(request.completion), logps)

    found = TeacherOnEngine("t", None, None, ask, print)._asked(named, 0)
    assert [request.prompt for request in asked] == [[1], [4]]
    assert [each.tolist() for each in found] == [[-2.0, -3.0], [-5.0], []]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollouts": None}, "score_likelihood ask once"),
        ({"losses": {"reverse_kl": 1.0}}, "reverse_kl compares .* whole distributions"),
        ({"losses": {"gold": 1.0}}, "gold compares .* whole distributions"),
        ({"losses": {"alm": 1.0}, "alm": {}}, "set alm.debias: false"),
        ({"losses": {"alm": 1.0}, "watch_hacking": {"rows": "x", "distance": "alm"}}, "neither"),
        ({"losses": {"opd": 1.0}, "teacher": None}, "online needs a teacher|needs a teacher"),
    ],
)
def test_settings_that_do_not_go_together(settings, message):
    with pytest.raises(ValidationError, match=message):
        stage(**{"losses": {"alm": 1.0}, **settings})


def test_the_teacher_is_asked_and_not_loaded():
    made = stage(losses={"opd": 1.0})
    assert (made.asks("teacher"), made.asks("model")) == ("likelihoods", None)
    assert not made.loads("teacher")
    assert made.loads("model")
    assert made.reads_tokenizer("teacher")
