"""vLLM against the transformers engine, with SmolLM2 in float32 and with tiny models.

Run with `make test-vllm`. One process has one vLLM engine at a time: tests that ask for the same
one stand together.
"""

from __future__ import annotations

import itertools
import json
import logging
import random
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.distillation.alignment.encoding import row_encoder
from llm_distill.distillation.teacher.engine_scores import engine_scores
from llm_distill.distillation.teacher.scoring import TeacherScorer
from llm_distill.engines.base import (
    Completion,
    Request,
    SamplingSettings,
    Score,
    ScoreRequest,
    StructuredOutput,
)
from llm_distill.engines.budget import Budget
from llm_distill.engines.codec import Prompt
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.vllm.shared import (
    NEEDS_VLLM,
    SMOLLM2,
    STUDENT,
    chat,
    need_smollm2,
    questions,
)

pytestmark = NEEDS_VLLM

SETTINGS = VLLMSettings(
    kind="vllm",
    max_model_len=512,
    max_num_seqs=16,
    max_num_batched_tokens=512,
    kv_cache_memory_bytes=2**28,
    enforce_eager=True,
)
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def opened() -> Iterator[Open]:
    """Opens a vLLM engine, or gives the one that is open if it is the same."""
    need_smollm2()
    now: dict[Any, Any] = {}

    def run(source: ModelSource = SMOLLM2, settings: VLLMSettings = SETTINGS) -> Any:
        if (source, settings) not in now:
            while now:
                now.popitem()[1].close()
            now[source, settings] = settings.open(source, Budget(None))
        return now[source, settings]

    yield run
    while now:
        now.popitem()[1].close()


@pytest.fixture(scope="module")
def reference() -> TransformersEngine:
    return TransformersEngine(SMOLLM2, TransformersSettings(batch_size=32, device="cpu"))


def greedy(**changes: Any) -> SamplingSettings:
    return SamplingSettings(**{"temperature": 0, "max_tokens": 24, **changes})


def answers(engine: Any, requests: Iterable[Request]) -> dict[str, Completion]:
    given = list(engine.generate(requests))
    assert len({completion.id for completion in given}) == len(given)
    return {completion.id: completion for completion in given}


def one(engine: Any, sampling: SamplingSettings, **more: Any) -> Completion:
    prompt = more.pop("prompt", chat("Tell me about the sea."))
    (completion,) = engine.generate([Request("one", prompt, sampling, **more)])
    return completion  # type: ignore[no-any-return]


def tokens_written(
    engine: Any, requests: Iterable[Request], monkeypatch: pytest.MonkeyPatch
) -> dict[str, tuple[list[int], list[int]]]:
    """Of every request, the tokens of its prompt and of its completion."""
    codec, seen = engine._codec, {}
    completion = codec.completion

    def noting(prompt: Prompt, tokens: list[int], *rest: Any) -> Completion:
        seen[prompt.request.id] = (prompt.tokens, tokens)
        return completion(prompt, tokens, *rest)  # type: ignore[no-any-return]

    monkeypatch.setattr(codec, "completion", noting)
    list(engine.generate(requests))
    return seen


def test_greedy_is_that_of_the_transformers_engine(
    opened: Open, reference: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [
        Request(str(i), chat(q) if i % 2 else q, greedy()) for i, q in enumerate(questions(64))
    ]
    ours = tokens_written(opened(), requests, monkeypatch)
    theirs = tokens_written(reference, requests, monkeypatch)
    assert len(ours) == 64
    different = [key for key in ours if ours[key] != theirs[key]]
    assert len(different) <= 64 * 0.05
    for key in different:
        prompt, written = ours[key]
        pairs = zip(written, theirs[key][1], strict=False)
        same = len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])
        with torch.inference_mode():
            logits = reference._model(torch.tensor([prompt + written[:same]])).logits[0, -1]
        best, second = logits.topk(2).values.tolist()
        assert best - second < 1e-3, f"request {key} differs where nothing is tied"


def test_completions_are_the_same_in_every_detail(
    opened: Open, reference: TransformersEngine
) -> None:
    """Spaces, end tokens, counts and reasons, with and without a chat template."""
    requests = [
        Request("chat", chat("What is the capital of France?"), greedy(), logprobs=True),
        Request("text", "The capital of France is", greedy(max_tokens=3), logprobs=True),
    ]
    ours, theirs = answers(opened(), requests), answers(reference, requests)
    for key, completion in ours.items():
        assert replace(completion, logprobs=None) == replace(theirs[key], logprobs=None)
        assert completion.logprobs == pytest.approx(theirs[key].logprobs, abs=1e-3)
        assert len(completion.logprobs or ()) == completion.n_completion_tokens
    assert ours["chat"].finish_reason == "stop"
    assert ours["text"].finish_reason == "length"
    assert ours["text"].text.startswith(" ")


def test_a_thought_is_closed_after_its_budget(opened: Open, reference: TransformersEngine) -> None:
    """SmolLM2's tags are several tokens each, which vLLM counts a little differently."""
    sampled = [greedy(max_tokens=20, thinking_token_budget=budget) for budget in (None, 0, 6)]
    prompts = ("The capital of France is\n<think>\n", "The capital of France is")
    requests = [
        Request(f"{i}-{sampling.thinking_token_budget}", prompt, sampling)
        for i, prompt in enumerate(prompts)
        for sampling in sampled
    ]
    ours, theirs = answers(opened(), requests), answers(reference, requests)
    for request in requests:
        if request.id != "0-6":
            assert ours[request.id].text == theirs[request.id].text
    assert "</think>" not in ours["0-None"].text
    assert ours["0-0"].text.startswith("<think></think>")
    thought = ours["0-6"].text.partition("</think>")[0].removeprefix("<think>")
    assert ours["0-None"].text.startswith(f"<think>{thought}")
    assert 0 < len(reference._tokenizer(thought, add_special_tokens=False)["input_ids"]) <= 8


def test_logprobs_are_the_models_own_at_any_temperature(
    opened: Open, reference: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingSettings(temperature=0.5, top_k=20, top_p=0.9, max_tokens=12)
    request = Request("one", "The sea is", sampling, seed=3, logprobs=True)
    completion = answers(opened(), [request])["one"]
    prompt, written = tokens_written(opened(), [request], monkeypatch)["one"]
    with torch.inference_mode():
        logits = reference._model(torch.tensor([prompt + written])).logits[0].float()
    rows = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    expected = rows[range(len(written)), written].tolist()
    assert completion.logprobs == pytest.approx(expected, abs=1e-3)


def test_a_seed_gives_its_text_again_in_any_batch_and_order(opened: Open) -> None:
    sampling = SamplingSettings(temperature=1.0, top_p=0.95, max_tokens=12)
    requests = [
        Request(f"{i}/{seed}", chat(question), sampling, seed=seed)
        for i, question in enumerate(questions(8))
        for seed in (-1, 0, 7)
    ]
    first = answers(opened(), requests)
    assert answers(opened(), requests) == first
    other = answers(opened(), reversed(requests))
    for request in requests[:6]:
        other |= answers(opened(), [request])
    # Rounding differs between batch shapes, and may draw another token in a rare row.
    assert sum(other[key] == first[key] for key in first) >= len(first) - 1
    assert len({first[f"0/{seed}"].text for seed in (-1, 0, 7)}) == 3


def test_an_endless_stream_is_read_lazily_and_can_be_left(opened: Open) -> None:
    engine = opened()
    read: list[int] = []

    def endless() -> Iterator[Request]:
        for index in itertools.count():
            read.append(index)
            yield Request(str(index), "The", greedy(max_tokens=1 + index % 5))

    stream = engine.generate(endless())
    given = [next(stream) for _ in range(40)]
    assert [int(completion.id) for completion in given] != sorted(int(c.id) for c in given)
    assert len(read) <= 40 + 2 * 16 + 1
    stream.close()
    assert not engine._engine.has_unfinished_requests()
    assert one(engine, greedy()).finish_reason in ("stop", "length")


def test_stop_strings_are_cut(opened: Open, reference: TransformersEngine) -> None:
    full = one(opened(), greedy())
    stop = full.text[20:24]
    sampling = greedy(stop=("nowhere in it", stop))
    cut = one(opened(), sampling, logprobs=True)
    assert (cut.text, cut.finish_reason) == (full.text[: full.text.index(stop)], "stop")
    assert cut.n_completion_tokens < full.n_completion_tokens
    assert len(cut.logprobs or ()) == cut.n_completion_tokens
    theirs = one(reference, sampling)
    assert replace(cut, logprobs=None) == theirs


def test_scores_are_those_of_the_transformers_engine(
    opened: Open, reference: TransformersEngine
) -> None:
    digits = "".join(random.Random(0).choices("0123456789", k=512))  # a token each
    requests = [
        *(ScoreRequest(f"q{i}", chat(q), "The answer is 12.") for i, q in enumerate(questions(6))),
        ScoreRequest("text", "The capital of France is", " Paris, a large city."),
        ScoreRequest("one token", "The capital of France is", " Paris"),
        ScoreRequest("none", "The capital of France is", ""),
        ScoreRequest("full", "The", digits[:511]),
        ScoreRequest("long", "The", digits),
    ]
    ours = {score.id: score for score in opened().score(requests)}
    theirs = {score.id: score for score in reference.score(requests)}
    assert "context of 512" in str(ours.pop("long").error)
    assert len(ours["one token"].logprobs) == 1
    assert len(ours["full"].logprobs) == 511
    assert ours["none"] == Score("none", n_prompt_tokens=5)
    for key, score in ours.items():
        assert replace(score, logprobs=()) == replace(theirs[key], logprobs=())
        assert score.logprobs == pytest.approx(theirs[key].logprobs, abs=1e-3)


def test_ranks_are_those_of_the_transformers_engine(
    opened: Open, reference: TransformersEngine
) -> None:
    texts = ["The answer is 12.", "zebra quantum 7 of it", "12"]
    requests = [
        ScoreRequest(f"{i}/{text}/{ranks}", chat(question), text, ranks)
        for i, question in enumerate(questions(4))
        for text in texts
        for ranks in (100, 1, 7)
    ]
    ours = {score.id: score for score in opened().score(requests)}
    theirs = {score.id: score for score in reference.score(requests)}
    pairs = [
        (one, other)
        for key, score in ours.items()
        for one, other in zip(score.ranks, theirs[key].ranks, strict=True)
    ]
    assert len({one for one, _ in pairs}) > 10
    # Rounding moves a rank where two tokens are nearly as likely.
    assert all(abs(one - other) <= 1 for one, other in pairs)
    assert sum(one != other for one, other in pairs) <= 0.02 * len(pairs)


def test_token_ids_are_scored_as_they_are(opened: Open) -> None:
    """As score_likelihood asks: the template's tokens and the end of the turn among them."""
    encoder = row_encoder(SMOLLM2, 512)
    talk = [*chat("What is 2 + 2?"), {"role": "assistant", "content": "It is 4."}]
    longer = [*talk, *chat("And 3 more?"), {"role": "assistant", "content": "That makes 7."}]
    rows = [(str(i), encoder.encode(turns)) for i, turns in enumerate((talk, longer))]

    def ask(requests: Iterable[ScoreRequest]) -> Iterator[tuple[ScoreRequest, Score]]:
        asked = list(requests)
        found = {score.id: score for score in opened().score(asked)}
        return iter([(request, found[request.id]) for request in asked])

    ours = engine_scores((({"id": name}, row) for name, row in rows), ask, "smollm2")
    scorer = TeacherScorer(SMOLLM2, encoder, batch_tokens=512, device="cpu")
    theirs = scorer.score([row for _, row in rows], ["0", "1"])
    for (*_, found), wanted in zip(ours, theirs, strict=True):
        assert not isinstance(found, str)
        assert found["teacher_logps"] == pytest.approx(wanted["teacher_logps"], abs=1e-3)


@pytest.mark.parametrize(
    ("structure", "form"),
    [
        (StructuredOutput(choice=("crimson", "azure")), "crimson|azure"),
        (StructuredOutput(regex="[0-9]{3}-[a-c]{2}"), "[0-9]{3}-[a-c]{2}"),
    ],
)
def test_choice_and_regex_hold(opened: Open, structure: StructuredOutput, form: str) -> None:
    sampling = SamplingSettings(temperature=1.0, max_tokens=24)
    for seed in range(3):
        completion = one(opened(), sampling, structure=structure, seed=seed)
        assert re.fullmatch(form, completion.text)
        assert completion.finish_reason == "stop"


def test_a_json_schema_holds(opened: Open) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 8}, "old": {"type": "boolean"}},
        "required": ["name", "old"],
        "additionalProperties": False,
    }
    structure = StructuredOutput(json_schema=schema)
    found = json.loads(one(opened(), greedy(max_tokens=60), structure=structure).text)
    assert isinstance(found["name"], str)
    assert isinstance(found["old"], bool)
    assert set(found) == {"name", "old"}


@pytest.mark.parametrize(
    "structure",
    [
        StructuredOutput(json_schema={"type": "nonsense"}),
        StructuredOutput(regex="(?P<a>b)(?P=a)"),
    ],
)
def test_a_form_that_is_none_is_refused_and_the_engine_lives(
    opened: Open, structure: StructuredOutput
) -> None:
    engine = opened()
    requests = [Request("bad", "The", greedy(), structure=structure), Request("a", "The", greedy())]
    with pytest.raises(ModelError, match=r"'smollm2': vLLM refuses request 'bad': .+"):
        list(engine.generate(requests))
    assert not engine._engine.has_unfinished_requests()
    assert one(engine, greedy()).error is None


def test_a_prompt_that_fills_the_context(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = opened()
    long = Request("long", " the" * 512, greedy())
    given = answers(engine, [long, Request("fine", "The", greedy())])
    assert "context of 512" in str(given["long"].error)
    assert given["fine"].error is None
    monkeypatch.setattr(engine._codec, "_long_prompt", "truncate")
    cut = answers(engine, [long])["long"]
    assert (cut.error, cut.n_prompt_tokens) == (None, 512 - 24)
    monkeypatch.setattr(engine._codec, "_long_prompt", "fail")
    with pytest.raises(ModelError, match="request 'long'"):
        answers(engine, [long])


def test_what_vllm_changes_for_the_process_is_put_back(opened: Open) -> None:
    opened()
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    assert torch.get_num_threads() == before + 1
    torch.set_num_threads(before)
    assert "rank" not in sys.excepthook.__name__
    assert logging.getLogger("vllm").handlers == []  # its records go to the root logger
    assert logging.getLogger("vllm").propagate


def test_a_bundled_model_as_it_was_saved(opened: Open) -> None:
    """Also: a second engine in the same process, and `dtype: auto` without a cast."""
    engine = opened(STUDENT)
    assert engine._engine.vllm_config.model_config.dtype == torch.float32
    requests = [
        Request(str(i), f"Question: {q}\nAnswer:", greedy(stop=("\nQuestion:",)))
        for i, q in enumerate(questions(32))
    ]
    theirs = answers(TransformersEngine(STUDENT, TransformersSettings(device="cpu")), requests)
    ours = answers(engine, requests)
    assert sum(ours[key] == theirs[key] for key in theirs) >= 31


def test_seeds_with_more_prompt_tokens_than_a_step_takes(opened: Open) -> None:
    """On a CPU a seed kills vLLM 0.32 where a prompt is cut into chunks."""
    engine = opened(STUDENT)
    sampling = SamplingSettings(temperature=1.0, max_tokens=4)
    tokenizer = load_tokenizer(STUDENT)
    long = tokenizer.decode(tokenizer(" ".join(questions(40)))["input_ids"][:450])
    requests = [Request(str(i), long, sampling, seed=i) for i in range(4)]
    first = answers(engine, requests)
    assert {completion.n_prompt_tokens for completion in first.values()} <= {*range(440, 460)}
    assert answers(engine, requests) == first


def test_an_adapter_gives_what_peft_gives(opened: Open, tiny: ModelSource, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=5, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(load_model(tiny), config).save_pretrained(tmp_path)
    adapted = replace(tiny, adapters=(str(tmp_path),))
    settings = SETTINGS.model_copy(update={"max_model_len": 96})
    requests = [Request(p, p, greedy(), logprobs=True) for p in ("The", "Question: a farmer", "ö")]
    transformers = TransformersSettings(device="cpu")
    theirs = answers(TransformersEngine(adapted, transformers), requests)
    plain = answers(TransformersEngine(tiny, transformers), requests)
    ours = answers(opened(adapted, settings), requests)
    for key, completion in ours.items():
        assert completion.text == theirs[key].text != plain[key].text
        assert completion.logprobs == pytest.approx(theirs[key].logprobs, abs=1e-3)


def test_an_adapter_that_does_not_fit_is_one_message(
    opened: Open, build: Callable[..., ModelSource], tiny: ModelSource, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model
    from vllm.platforms import current_platform

    wide = build(hidden_size=128, num_attention_heads=4)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    get_peft_model(load_model(wide), config).save_pretrained(tmp_path)
    settings = SETTINGS.model_copy(update={"max_model_len": 96})
    with pytest.raises(ModelError, match=r"adapter .* does not fit model 'tiny'"):
        opened(replace(tiny, adapters=(str(tmp_path),)), settings)
    if not current_platform.is_cpu():  # where adapters are merged, however many
        with pytest.raises(ModelError, match=r"2 adapters on top of each other.*merge all but"):
            opened(replace(tiny, adapters=(str(tmp_path), str(tmp_path))), settings)
    assert one(opened(tiny, settings), greedy(), prompt="The").error is None  # nothing was left


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kv_cache_memory_bytes": 4096}, "lower engine.max_model_len"),
        ({"quantization": "nonsense"}, "Unknown quantization method: nonsense"),
        ({"max_model_len": 4096}, r"max_model_len \(4096\) is greater"),
    ],
)
def test_what_cannot_be_loaded_is_one_message(
    opened: Open, tiny: ModelSource, change: dict[str, Any], message: str
) -> None:
    settings = SETTINGS.model_copy(update={"max_model_len": 96, **change})
    with pytest.raises(ModelError, match=rf"(?s)^vLLM cannot load model 'tiny'.*{message}"):
        opened(tiny, settings)


def test_in_one_of_several_processes_it_is_refused(
    opened: Open, tiny: ModelSource, tmp_path: Path
) -> None:
    """It would wait for the others, and in the end tear down what they share."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1
    )
    try:
        with pytest.raises(ModelError, match="processes that share a training; set it to vllm_ser"):
            opened(tiny, SETTINGS.model_copy(update={"max_model_len": 96}))
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()


def test_nothing_remains_after_close(opened: Open, tiny: ModelSource) -> None:
    engine = opened(tiny, SETTINGS.model_copy(update={"max_model_len": 96, "max_num_seqs": 4}))
    engine.close()
    engine.close()
    assert not torch.distributed.is_initialized()
    assert len(load_tokenizer(tiny)) > 0


def test_the_tokens_that_it_sampled(opened: Open, reference: TransformersEngine) -> None:
    sampling = SamplingSettings(temperature=1.2, max_tokens=16)
    asked = [Request(q[:20], chat(q), sampling, seed=3, tokens=True) for q in questions(4)]
    engine = opened()
    done = answers(engine, asked)
    requests = []
    for request in asked:
        found = done[request.id]
        assert found.token_ids is not None
        assert len(found.token_ids) == found.n_completion_tokens
        tokens = engine._codec.read(request).tokens
        requests.append(ScoreRequest(request.id, tokens, found.token_ids))
    for score in reference.score(requests):
        assert done[score.id].logprobs == pytest.approx(score.logprobs, abs=1e-3)
