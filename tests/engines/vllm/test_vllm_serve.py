"""The engine for servers against a real one: `vllm serve` on the CPU, beside transformers.

Run with `make test-vllm`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from llm_distill.engines.base import (
    Completion,
    Request,
    SamplingSettings,
    ScoreRequest,
    StructuredOutput,
)
from llm_distill.engines.budget import Budget
from llm_distill.engines.openai.settings import OpenAISettings
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from tests.engines.vllm.shared import (
    NEEDS_VLLM,
    SMOLLM2,
    chat,
    need_smollm2,
    questions,
    serving,
)

pytestmark = NEEDS_VLLM

SERVED = "smollm2-135m"
OPTIONS = {
    "--model": SMOLLM2.path,
    "--served-model-name": SERVED,
    "--host": "127.0.0.1",
    "--dtype": "float32",
    "--generation-config": "vllm",
    "--max-model-len": "512",
    "--max-num-seqs": "16",
}
# Where a prompt is cut into chunks, a seed kills vLLM 0.32 on a CPU.
SWITCHES = ["--enforce-eager", "--no-enable-chunked-prefill"]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
    "required": ["name", "old"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that lives as long as this module's tests."""
    need_smollm2()
    options = [text for pair in OPTIONS.items() for text in pair]
    with serving([*options, *SWITCHES], tmp_path_factory.mktemp("serve") / "log") as address:
        yield address


@pytest.fixture
def server(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The engine that the tests are about."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    engine = open_on(url)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def reference() -> TransformersEngine:
    return TransformersEngine(SMOLLM2, TransformersSettings(batch_size=24, device="cpu"))


def open_on(url: str, model: str = SERVED) -> Any:
    settings = OpenAISettings(kind="openai", base_url=url, model=model, max_attempts=1)
    return settings.open(ModelSource("teacher", "none", tokenizer=SMOLLM2), Budget(None))


def greedy(**changes: Any) -> SamplingSettings:
    return SamplingSettings(**{"temperature": 0, "max_tokens": 16, **changes})


def answers(engine: Any, requests: list[Request]) -> dict[str, Completion]:
    given = {completion.id: completion for completion in engine.generate(requests)}
    assert set(given) == {request.id for request in requests}
    return given


def one(engine: Any, sampling: SamplingSettings, **more: Any) -> Completion:
    prompt = more.pop("prompt", chat("Tell me about the sea."))
    return answers(engine, [Request("one", prompt, sampling, **more)])["one"]


@pytest.mark.parametrize("form", ["chat", "text"])
def test_greedy_is_that_of_the_transformers_engine(
    server: Any, reference: TransformersEngine, form: str
) -> None:
    """In every detail: text, reason, and the tokens of prompt and completion."""
    requests = [
        Request(str(i), chat(q) if form == "chat" else q, greedy())
        for i, q in enumerate(questions(24))
    ]
    ours, theirs = answers(server, requests), answers(reference, requests)
    assert sum(ours[key] == theirs[key] for key in theirs) >= 23


def test_logprobs_are_those_of_the_transformers_engine(
    server: Any, reference: TransformersEngine
) -> None:
    requests = [
        Request("chat", chat("What is the capital of France?"), greedy(), logprobs=True),
        Request("text", "The capital of France is", greedy(), logprobs=True),
    ]
    theirs = answers(reference, requests)
    for key, completion in answers(server, requests).items():
        assert completion.logprobs is not None
        assert len(completion.logprobs) == completion.n_completion_tokens > 4
        assert completion.text == theirs[key].text
        assert completion.logprobs == pytest.approx(theirs[key].logprobs, abs=1e-2)


def test_stop_strings_are_cut(server: Any, reference: TransformersEngine) -> None:
    full = one(server, greedy()).text
    sampling = greedy(stop=("nowhere in it", full[10:14]))
    cut = one(server, sampling)
    assert (cut.text, cut.finish_reason) == (full[: full.index(full[10:14])], "stop")
    assert cut == one(reference, sampling)


def test_a_seed_gives_its_text_again_in_any_order(server: Any) -> None:
    sampling = SamplingSettings(temperature=1.0, top_k=50, top_p=0.95, max_tokens=12)
    requests = [
        Request(f"{i}/{seed}", chat(question), sampling, seed=seed)
        for i, question in enumerate(questions(4))
        for seed in (-1, 7, 2**40 + 1)
    ]
    first = answers(server, requests)
    again = answers(server, requests[::-1])
    # Rounding differs between batch shapes, and may draw another token in a rare row.
    assert sum(again[key] == first[key] for key in first) >= len(first) - 1
    assert len({first[f"0/{seed}"].text for seed in (-1, 7, 2**40 + 1)}) == 3


@pytest.mark.parametrize("prompt", [chat("Name a colour."), "A colour:"], ids=["chat", "text"])
def test_the_form_of_an_answer_holds(server: Any, prompt: Any) -> None:
    sampling = SamplingSettings(temperature=1.0, max_tokens=24)
    for seed in range(3):
        choice = StructuredOutput(choice=("crimson", "azure"))
        chosen = one(server, sampling, prompt=prompt, structure=choice, seed=seed)
        assert chosen.text in ("crimson", "azure")
        regex = StructuredOutput(regex="[0-9]{3}-[a-c]{2}")
        matched = one(server, sampling, prompt=prompt, structure=regex, seed=seed)
        assert re.fullmatch("[0-9]{3}-[a-c]{2}", matched.text)
        assert chosen.finish_reason == matched.finish_reason == "stop"


def test_a_json_schema_holds(server: Any) -> None:
    structure = StructuredOutput(json_schema=SCHEMA)
    found = json.loads(one(server, greedy(max_tokens=60), structure=structure).text)
    assert isinstance(found["name"], str)
    assert isinstance(found["old"], bool)
    assert set(found) == {"name", "old"}


@pytest.mark.parametrize(
    "structure",
    [StructuredOutput(json_schema={"type": "nonsense"}), StructuredOutput(regex="(?=a)b")],
    ids=["schema", "regex"],
)
def test_a_form_that_the_server_does_not_know_ends_the_run(
    server: Any, structure: StructuredOutput
) -> None:
    with pytest.raises(ModelError, match="HTTP 400: .*does not take the structure of the answers"):
        one(server, greedy(), structure=structure)
    assert one(server, greedy()).error is None


def test_a_model_that_is_not_served_is_one_message_with_the_name_of_the_one_that_is(
    server: Any, url: str
) -> None:
    engine = open_on(url, "smollm2-135")
    with pytest.raises(
        ModelError, match=rf"^model 'teacher': .*did you mean '{SERVED}'\? it serves: {SERVED}$"
    ):
        one(engine, greedy())
    engine.close()


def test_a_prompt_that_does_not_fit_is_a_bad_row(server: Any) -> None:
    long = " the" * 600
    requests = [
        Request("text", long, greedy()),
        Request("chat", chat(long), greedy()),
        Request("fine", "The", greedy()),
    ]
    given = answers(server, requests)
    for key in ("text", "chat"):
        assert given[key].finish_reason == "error"
        assert "maximum context length is 512" in str(given[key].error)
    assert given["fine"].error is None


def test_likelihoods_are_those_of_a_forward_pass(
    server: Any, reference: TransformersEngine
) -> None:
    texts = ["The sea is wide.", " 1 + 1 = 2", "x", "naïve “quotes”, 你好"]
    requests = [
        ScoreRequest(f"{form} {text}", prompt, text, ranks=5)
        for text in texts
        for form, prompt in (("chat", chat("Tell me of it.")), ("text", "It says:"))
    ]
    asked = [replace(request, top_k=6) for request in requests]
    ours = {score.id: score for score in server.score(asked)}
    theirs = {score.id: score for score in reference.score(requests)}
    assert ours.keys() == theirs.keys()
    for key, score in ours.items():
        assert score.token_ids == theirs[key].token_ids
        assert score.n_prompt_tokens == theirs[key].n_prompt_tokens
        assert score.logprobs == pytest.approx(theirs[key].logprobs, abs=1e-4)
        assert score.ranks == theirs[key].ranks
        assert len(score.top_ids) == len(score.top_logprobs) == 6 * len(score.token_ids)
        for place, (token, logprob, rank) in enumerate(
            zip(score.token_ids, score.logprobs, score.ranks, strict=True)
        ):
            top = slice(6 * place, 6 * place + 6)
            assert list(score.top_logprobs[top]) == sorted(score.top_logprobs[top], reverse=True)
            if rank < 5:
                assert score.top_ids[top][rank - 1] == token
                assert score.top_logprobs[top][rank - 1] == logprob


def test_more_likeliest_tokens_than_it_gives_are_refused_before_anything_is_scored(
    server: Any,
) -> None:
    with pytest.raises(ModelError, match="--max-logprobs"):
        list(server.score([ScoreRequest("a", "It says:", " no", top_k=21)]))


@pytest.mark.parametrize("is_chat", [True, False])
def test_the_tokens_that_it_sampled(url: str, is_chat: bool) -> None:
    """Their ids with the end that the model wrote, and likelihoods at temperature 1."""
    own = TransformersEngine(SMOLLM2, TransformersSettings(batch_size=8, device="cpu"))
    sampling = SamplingSettings(temperature=0.7, top_k=5, max_tokens=24)
    prompts = [chat(f"Say {n} in a word.") if is_chat else f"{n} + 1 =" for n in range(6)]
    asked = [Request(str(n), p, sampling, seed=n, tokens=True) for n, p in enumerate(prompts)]
    engine = OpenAISettings(kind="openai", base_url=url, model=SERVED).open(SMOLLM2, Budget(None))
    try:
        done = {found.id: found for found in engine.generate(asked)}
    finally:
        engine.close()
    requests = []
    for request in asked:
        found = done[request.id]
        assert found.error is None
        assert found.token_ids is not None
        assert len(found.token_ids) == found.n_completion_tokens
        ended = found.token_ids[-1] in own._codec._ends
        assert ended == (found.finish_reason == "stop")
        written = list(found.token_ids[:-1] if ended else found.token_ids)
        assert own._codec.text(written) == found.text
        requests.append(ScoreRequest(request.id, own._codec.read(request).tokens, found.token_ids))
    assert any(found.finish_reason == "stop" for found in done.values()) or not is_chat
    for score in own.score(requests):
        assert done[score.id].logprobs == pytest.approx(score.logprobs, abs=1e-3)


def test_adapters_need_a_server_that_was_started_to_load_them(server: Any, url: str) -> None:
    settings = OpenAISettings(kind="openai", base_url=url, model=SERVED, adapters="hot_load")
    with pytest.raises(
        ModelError, match=r"HTTP 404: Not Found.*VLLM_ALLOW_RUNTIME_LORA_UPDATING=1"
    ):
        settings.open(SMOLLM2, Budget(None))
