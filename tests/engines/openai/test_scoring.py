"""Likelihoods from a server are those of a forward pass, and one that cannot give them says why."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Score, ScoreRequest
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai.engine import OpenAIEngine
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.errors import BudgetError, ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.conftest import CONTEXT, save_tokenizer
from tests.engines.loopback import Loopback, cut_in_the_middle, nobody, refuse, say
from tests.engines.scoring_server import ScoringServer

TEXTS = ("seven apples are left.", " 1 + 1", "x", "the text goes on and on")


@pytest.fixture(scope="session")
def answering(tiny: ModelSource) -> ScoringServer:
    return ScoringServer(tiny)


def scores(
    server: Loopback | list[str],
    tiny: ModelSource,
    requests: list[ScoreRequest],
    budget: float | None = None,
    **settings: Any,
) -> dict[str, Score]:
    engine = OpenAIEngine(
        OpenAISettings(
            kind="openai",
            base_url=server if isinstance(server, list) else server.url,
            timeout=20,
            **settings,
        ),
        ModelSource("teacher", "served-model", prompt_format="text", tokenizer=tiny),
        Budget(budget),
    )
    try:
        return {score.id: score for score in engine.score(requests)}
    finally:
        engine.close()


def why_not(server: Loopback, tiny: ModelSource, **request: Any) -> str:
    with pytest.raises(ModelError) as error:
        scores(server, tiny, [ScoreRequest("a", "The model", " continues", **request)])
    return str(error.value)


def forward_pass(source: ModelSource, ids: list[int], start: int) -> torch.Tensor:
    """Of all tokens at each place from `start` on."""
    model: Any = load_model(source)
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].log_softmax(-1)[start - 1 : -1]


def test_they_are_those_of_a_forward_pass(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    asked = [ScoreRequest(text, "The quick fox", text, ranks=3, top_k=5) for text in TEXTS]
    found = scores(server, tiny, asked)
    tokenizer: Any = load_tokenizer(tiny)
    for text in TEXTS:
        prompt, score = tokenizer("The quick fox")["input_ids"], found[text]
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        rows = forward_pass(tiny, [*prompt, *ids], len(prompt))
        own = rows[range(len(ids)), ids]
        assert score.token_ids == tuple(ids)
        assert score.n_prompt_tokens == len(prompt)
        assert score.logprobs == pytest.approx(own.tolist(), abs=1e-5)
        likelier = 1 + (rows > own[:, None]).sum(-1)
        assert score.ranks == tuple(likelier.clamp(max=3).tolist())
        top = rows.topk(5)
        assert score.top_ids == tuple(top.indices.flatten().tolist())
        assert score.top_logprobs == pytest.approx(top.values.flatten().tolist(), abs=1e-5)


def test_ids_are_sent_as_they_are_and_a_text_may_fill_the_context(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    ids = [9, 8, 300, 7]
    long = [index % 300 for index in range(CONTEXT)]
    found = scores(
        server,
        tiny,
        [ScoreRequest("a", ids[:2], ids[2:]), ScoreRequest("b", long[:90], long[90:])],
    )
    rows = forward_pass(tiny, ids, 2)
    assert found["a"].logprobs == pytest.approx([float(rows[0, 300]), float(rows[1, 7])], abs=1e-5)
    assert len(found["b"].logprobs) == 6
    (sent,) = [call.body for call in server.calls if call.body.get("prompt") == ids[:-1]]
    assert sent["allowed_token_ids"] == [7]
    assert sent["max_tokens"] == 1


def test_what_it_costs_is_counted_and_limited(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    price = {"input": 1e6, "output": 1e6}
    request = ScoreRequest("a", [1, 2, 3], [4, 5])
    assert scores(server, tiny, [request], price=price)["a"].cost == 4 + 1
    many = [replace(request, id=str(n)) for n in range(50)]
    with pytest.raises(BudgetError, match="--max-cost"):
        scores(server, tiny, many, budget=200.0, price=price)


def test_it_is_asked_again_where_that_may_help(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    server.faults.extend([refuse(429), cut_in_the_middle, refuse(500)])
    found = scores(server, tiny, [ScoreRequest("a", [1, 2], [3])])
    assert found["a"].error is None


def test_a_row_that_it_cannot_score_is_a_bad_row(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    good, bad = ScoreRequest("a", [1, 2], [3]), ScoreRequest("b", [1, 9999], [3, 4])
    found = scores(server, tiny, [good, bad, ScoreRequest("c", "", "x" * 500)])
    assert found["a"].error is None
    assert "out of vocabulary" in str(found["b"].error)
    assert "context" in str(found["c"].error)


def other_tokenizer(tmp_path: Any) -> Any:
    return save_tokenizer(tmp_path, vocabulary=300)


@pytest.mark.parametrize(
    ("made", "request_", "said"),
    [
        ({"processed": True}, {}, "--logprobs-mode raw_logprobs"),
        ({"most": 5}, {"top_k": 9}, "--max-logprobs"),
        ({"cut": 12}, {}, "tokens of a text its server read 12: it cuts texts; .*--max-model-len"),
        ({"logits": True}, {}, "above 0.*--logprobs-mode raw_logprobs"),
        ({"last": -30.0}, {}, "where it writes it.*--logprobs-mode raw_logprobs"),
    ],
)
def test_a_server_that_does_not_fit_says_what_to_change(
    server: Loopback, tiny: ModelSource, made: Any, request_: Any, said: str
) -> None:
    server.answer = ScoringServer(tiny, **made)
    message = why_not(server, tiny, **request_)
    assert re.search(said, message), message
    assert len(server.calls) <= 2  # nothing was paid for but the probe


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("n_scored", [1, 5])
def test_one_that_cuts_only_what_is_longer_than_the_probe_ends_the_run(
    server: Loopback, tiny: ModelSource, silent: bool, n_scored: int
) -> None:
    """Else the longest texts alone would be left out. Of one token nothing but usage tells it."""
    server.answer = ScoringServer(tiny, cut=80, silent=silent)
    ids = [n % 300 for n in range(90)]
    short, long = (
        ScoreRequest("a", [1, 2], [3]),
        ScoreRequest("b", ids[:-n_scored], ids[-n_scored:]),
    )
    if silent and n_scored == 1:
        assert scores(server, tiny, [short, long])["b"].error is None
        return
    with pytest.raises(ModelError, match="of 89 tokens of a text its server read 80: it cuts"):
        scores(server, tiny, [short, long])


@pytest.mark.parametrize("status", [500, 503])
def test_a_busy_server_is_not_called_incapable(
    server: Loopback, tiny: ModelSource, answering: ScoringServer, status: int
) -> None:
    server.answer = answering
    server.faults.extend([refuse(status, "overloaded")] * 2)
    with pytest.raises(ModelError) as error:
        scores(server, tiny, [ScoreRequest("a", "b", "c")], max_attempts=2)
    message = str(error.value)
    assert "overloaded" in message
    assert "run it again" in message
    assert "kind: transformers" not in message


def test_what_it_refuses_of_ids_is_not_laid_to_the_likeliest_that_nobody_asked_for(
    server: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = answering
    server.faults.extend([answering, refuse(400, "prompt must be text")])
    message = why_not(server, tiny)
    assert "prompt must be text" in message
    assert "--max-logprobs" not in message


def test_another_tokenizer_is_told(server: Loopback, tiny: ModelSource, tmp_path: Any) -> None:
    server.answer = ScoringServer(tiny, tokenizer=other_tokenizer(tmp_path))
    assert "another tokenizer" in why_not(server, tiny)


@pytest.mark.parametrize("answer", [None, say("{}"), refuse(400, "unknown field prompt_logprobs")])
def test_a_server_without_log_probabilities_is_told(
    server: Loopback, tiny: ModelSource, answer: Callable[..., Any] | None
) -> None:
    if answer is not None:
        server.answer = answer
    message = why_not(server, tiny)
    assert "no log-probabilities of given texts" in message
    assert "kind: transformers or vllm" in message


@pytest.fixture
def second() -> Iterator[Loopback]:
    loopback = Loopback()
    yield loopback
    loopback.close()


def both(server: Loopback, second: Loopback) -> list[str]:
    return [server.url, second.url]


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"processed": True}, "--logprobs-mode raw_logprobs"),
        ({"tokenizer": "other"}, "another tokenizer"),
        (None, "no log-probabilities of given texts"),
    ],
)
def test_each_of_several_servers_is_asked_what_it_gives(
    server: Loopback,
    second: Loopback,
    tiny: ModelSource,
    answering: ScoringServer,
    tmp_path: Any,
    made: Any,
    said: str,
) -> None:
    server.answer = answering
    if made == {"tokenizer": "other"}:
        made = {"tokenizer": other_tokenizer(tmp_path)}
    if made is not None:
        second.answer = ScoringServer(tiny, **made)
    for urls in (both(server, second), both(second, server)):
        with pytest.raises(ModelError) as error:
            scores(urls, tiny, [ScoreRequest("a", "The model", " continues")])
        assert f"at {second.url}: " in str(error.value)
        assert said in str(error.value)
        assert server.url not in str(error.value)
    # Nothing was paid for but the probes.
    assert len(server.calls) <= 2
    assert len(second.calls) <= 4


def test_two_that_fit_share_the_work(
    server: Loopback, second: Loopback, tiny: ModelSource, answering: ScoringServer
) -> None:
    server.answer = second.answer = answering
    asked = [ScoreRequest(str(n), [n, 1], [2, 3]) for n in range(20)]
    found = scores(both(server, second), tiny, asked)
    assert all(score.error is None for score in found.values())
    assert len(server.calls) + len(second.calls) == 20 + 2 * 2
    assert min(len(server.calls), len(second.calls)) > 2


def test_one_that_is_away_and_was_not_asked_is_sent_nothing(
    server: Loopback,
    tiny: ModelSource,
    answering: ScoringServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It may be there later, with another tokenizer."""
    server.answer = answering
    with nobody() as away:
        found = scores([away, server.url], tiny, [ScoreRequest("a", [1, 2], [3])])
    assert found["a"].error is None
    assert f"{away} cannot be reached, and is sent nothing in this stage" in caplog.text


def test_none_that_is_there_ends_the_run(tiny: ModelSource) -> None:
    with nobody() as away, nobody() as gone, pytest.raises(ModelError, match="cannot be reached"):
        scores([away, gone], tiny, [ScoreRequest("a", [1, 2], [3])])


def test_without_a_tokenizer_it_is_said_how_to_name_it(server: Loopback) -> None:
    engine = OpenAIEngine(
        OpenAISettings(kind="openai", base_url=server.url),
        ModelSource("teacher", "served-model"),
        Budget(None),
    )
    with pytest.raises(ModelError, match="engine.model what the server calls it"):
        list(engine.score([ScoreRequest("a", "b", "c")]))
    engine.close()
    assert not server.calls
