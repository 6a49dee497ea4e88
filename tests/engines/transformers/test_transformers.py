"""The engine against transformers' own generation, a plain forward pass, and itself."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.engines.base import (
    Completion,
    Request,
    SamplingSettings,
    ScoreRequest,
    StructuredOutput,
)
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer

Complete = Callable[..., dict[str, Completion]]

PROMPTS = [
    "The",
    "Question: a farmer has twelve",
    "jumps over the lazy dog; 0 1 2 3 4 5 6",
    "ö",
    "The text goes on and on until it ends.\nAnswer: seven apples are left.\nThe quick brown",
]


def greedy(**changes: Any) -> SamplingSettings:
    return SamplingSettings(**{"temperature": 0, "max_tokens": 24, **changes})


def requests_for(sampling: SamplingSettings, **more: Any) -> list[Request]:
    return [Request(f"r{i}", p, sampling, seed=i, **more) for i, p in enumerate(PROMPTS)]


def one(complete: Complete, source: ModelSource, sampling: SamplingSettings, **more: Any) -> Any:
    prompt = more.pop("prompt", PROMPTS[1])
    return complete(source, [Request("one", prompt, sampling, **more)])["one"]


def reference(source: ModelSource, prompt: str, max_tokens: int) -> list[int]:
    """Greedy tokens of `model.generate` for one prompt, alone and without padding."""
    ids = load_tokenizer(source)(prompt, return_tensors="pt")["input_ids"]
    model = load_model(source)
    with torch.inference_mode():
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens
        )
    return list(out[0, ids.shape[1] :].tolist())


def decode(source: ModelSource, tokens: list[int]) -> str:
    return str(load_tokenizer(source).decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("kv_heads", [1, 2])
def test_greedy_is_that_of_model_generate(
    build: Callable[..., ModelSource], complete: Complete, kv_heads: int
) -> None:
    source = build(num_key_value_heads=kv_heads)
    given = complete(source, requests_for(greedy()))
    for index, prompt in enumerate(PROMPTS):
        tokens = reference(source, prompt, 24)
        completion = given[f"r{index}"]
        assert completion.text == decode(source, tokens)
        assert completion.n_completion_tokens == len(tokens)
    assert len({completion.text for completion in given.values()}) == len(PROMPTS)


def test_greedy_with_learned_positions(
    tiny: ModelSource, complete: Complete, tmp_path: Path
) -> None:
    """Rotary positions forgive a shift; GPT-2's do not: padding must not move a row's."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(1)
    tokenizer = load_tokenizer(tiny)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=96,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=2,
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = replace(tiny, path=str(tmp_path))
    given = complete(source, requests_for(greedy()))
    for index, prompt in enumerate(PROMPTS):
        assert given[f"r{index}"].text == decode(source, reference(source, prompt, 24))


@pytest.mark.parametrize(
    "sampling",
    [
        greedy(),
        SamplingSettings(temperature=1.0, max_tokens=40),
        SamplingSettings(temperature=0.7, top_p=0.9, top_k=20, max_tokens=40, stop=("e", "th")),
    ],
)
def test_the_batch_does_not_change_a_completion(
    tiny: ModelSource, complete: Complete, sampling: SamplingSettings
) -> None:
    requests = [
        Request(f"{prompt}/{i}", prompt, sampling, seed=i, logprobs=i == 0)
        for i in range(4)
        for prompt in PROMPTS
    ]
    alone = complete(tiny, requests, batch_size=1)
    random.Random(5).shuffle(requests)
    for batch_size in (3, 8):
        together = complete(tiny, requests, batch_size=batch_size)
        for key, completion in alone.items():
            assert replace(together[key], logprobs=None) == replace(completion, logprobs=None)


def test_rows_with_other_settings_in_the_batch_do_not_disturb(
    tiny: ModelSource, complete: Complete
) -> None:
    settings = [
        greedy(),
        greedy(max_tokens=3),
        SamplingSettings(temperature=1.0, max_tokens=30),
        SamplingSettings(temperature=1.3, top_k=3, max_tokens=9),
        SamplingSettings(temperature=0.8, top_p=0.5, max_tokens=20, stop=("a",)),
    ]
    requests = [Request(str(i), PROMPTS[1], s, seed=7) for i, s in enumerate(settings)]
    assert complete(tiny, requests, batch_size=8) == complete(tiny, requests, batch_size=1)


def test_the_seed_and_nothing_else_decides(tiny: ModelSource, complete: Complete) -> None:
    sampling = SamplingSettings(temperature=1.0, max_tokens=12)
    requests = [Request(str(i), "The", sampling, seed=i % 5) for i in range(10)]
    texts = [complete(tiny, requests)[str(i)].text for i in range(10)]
    assert texts[:5] == texts[5:]
    assert len(set(texts[:5])) == 5


def test_end_tokens_of_both_configs_end_a_completion(tiny: ModelSource, tmp_path: Path) -> None:
    tokens = reference(tiny, PROMPTS[1], 24)
    path = tmp_path / "model"
    shutil.copytree(tiny.path, path)
    ending = tokens[6]
    assert ending not in tokens[:6]
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, ending]}))
    engine = TransformersEngine(replace(tiny, path=str(path)), TransformersSettings(device="cpu"))
    assert engine._ends.tolist() == sorted([2, ending])
    request = Request("one", PROMPTS[1], greedy(), logprobs=True)
    (completion,) = engine.generate([request])
    assert completion.finish_reason == "stop"
    assert completion.n_completion_tokens == 7  # the end token is counted and not shown
    assert completion.logprobs is not None
    assert len(completion.logprobs) == 7
    assert completion.text == decode(tiny, tokens[:6])


def test_a_stop_string_across_tokens_is_cut(tiny: ModelSource, complete: Complete) -> None:
    full = one(complete, tiny, greedy())
    tokens = reference(tiny, PROMPTS[1], 24)
    head = decode(tiny, tokens[:5])
    stop = full.text[len(head) - 1 : len(head) + 1]  # ends one token and begins the next
    first = full.text.index(stop)
    used = next(n for n in range(25) if stop in decode(tiny, tokens[:n]))
    cut = one(complete, tiny, greedy(stop=("nowhere in it", stop)))
    assert (cut.text, cut.finish_reason) == (full.text[:first], "stop")
    assert cut.n_completion_tokens == used < full.n_completion_tokens


def test_a_stop_string_at_the_start_leaves_nothing(tiny: ModelSource, complete: Complete) -> None:
    full = one(complete, tiny, greedy())
    cut = one(complete, tiny, greedy(stop=(full.text[:1],)))
    assert (cut.text, cut.finish_reason, cut.n_completion_tokens) == ("", "stop", 1)


def test_the_first_of_several_stop_strings_counts(tiny: ModelSource, complete: Complete) -> None:
    full = one(complete, tiny, greedy())
    late, early = full.text[9:12], full.text[4:6]
    cut = one(complete, tiny, greedy(stop=(late, early)))
    assert cut.text == full.text[: min(full.text.index(late), full.text.index(early))]
    # Two that end together: the one that begins first.
    end = next(i for i in range(2, 20) if full.text[i] not in full.text[:i])
    both = (full.text[end], full.text[end - 1 : end + 1])
    assert one(complete, tiny, greedy(stop=both)).text == full.text[: end - 1]


def test_logprobs_are_those_of_a_forward_pass(tiny: ModelSource, complete: Complete) -> None:
    sampling = SamplingSettings(temperature=0.6, top_k=9, top_p=0.9, max_tokens=20)
    requests = requests_for(sampling, logprobs=True)
    requests[2] = replace(requests[2], logprobs=False)
    given = complete(tiny, requests)
    assert given["r2"].logprobs is None
    model, tokenizer = load_model(tiny), load_tokenizer(tiny)
    for request in (requests[1], requests[4]):
        completion = given[request.id]
        prompt = tokenizer(str(request.prompt))["input_ids"]
        written = tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        if len(written) != completion.n_completion_tokens:
            written = _tokens_drawn(tiny, request)
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + written])).logits[0]
        expected = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(
            1, torch.tensor(written)[:, None]
        )[:, 0]
        assert completion.logprobs is not None
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=2e-4, rtol=0)


def _tokens_drawn(source: ModelSource, request: Request) -> list[int]:
    """The very tokens: a text need not be tokenised again as it was written."""
    engine = TransformersEngine(source, TransformersSettings(device="cpu"))
    seen: list[list[int]] = []
    engine._codec.text = lambda tokens: seen.append(tokens) or ""  # type: ignore[method-assign,func-returns-value]
    list(engine.generate([request]))
    return seen[0]


def test_max_tokens_cuts(tiny: ModelSource, complete: Complete) -> None:
    full = reference(tiny, PROMPTS[1], 24)
    cut = one(complete, tiny, greedy(max_tokens=5))
    assert (cut.finish_reason, cut.n_completion_tokens) == ("length", 5)
    assert cut.text == decode(tiny, full[:5])


def test_top_k_of_one_is_greedy(tiny: ModelSource, complete: Complete) -> None:
    drawn = complete(tiny, requests_for(SamplingSettings(temperature=2.0, top_k=1, max_tokens=24)))
    best = complete(tiny, requests_for(greedy()))
    assert drawn == best


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"), [(1.0, 0, 1.0), (1.5, 4, 1.0), (0.8, 0, 0.7)]
)
def test_tokens_are_drawn_as_often_as_they_should_be(
    tiny: ModelSource, temperature: float, top_k: int, top_p: float
) -> None:
    n = 3000
    sampling = SamplingSettings(
        temperature=temperature, top_k=top_k, top_p=top_p, max_tokens=1, stop=()
    )
    engine = TransformersEngine(tiny, TransformersSettings(batch_size=500, device="cpu"))
    drawn: Counter[int] = Counter()
    engine._completion = lambda prompt, record, row: drawn.update(  # type: ignore[method-assign]
        [int(record.tokens[row, 0])]
    )
    list(engine.generate(Request(str(i), "The", sampling, seed=i) for i in range(n)))
    ids = torch.tensor([load_tokenizer(tiny)("The")["input_ids"]])
    with torch.inference_mode():
        logits = load_model(tiny)(ids).logits[0, -1].double() / temperature
    expected = _truncated(logits.softmax(-1), top_k, top_p)
    assert sum(drawn.values()) == n
    assert all(expected[token] > 0 for token in drawn)
    # Pearson's statistic over the likely tokens, the rest as one cell.
    cells = [(drawn[i], n * p) for i, p in enumerate(expected.tolist()) if n * p >= 8]
    rest = (n - sum(c for c, _ in cells), n - sum(e for _, e in cells))
    cells += [rest] if rest[1] >= 8 else []
    statistic = sum((c - e) ** 2 / e for c, e in cells)
    freedom = len(cells) - 1
    assert freedom >= 2
    assert abs(statistic - freedom) < 3.5 * (2 * freedom) ** 0.5


def _truncated(probabilities: torch.Tensor, top_k: int, top_p: float) -> torch.Tensor:
    kept = torch.zeros_like(probabilities)
    for rank, token in enumerate(probabilities.argsort(descending=True).tolist()):
        if (top_k and rank >= top_k) or kept.sum() >= top_p:
            break
        kept[token] = probabilities[token]
    return kept / kept.sum()


def test_a_prompt_that_fills_the_context_is_a_bad_row(
    tiny: ModelSource, complete: Complete
) -> None:
    context = load_model(tiny).config.max_position_embeddings
    requests = [
        Request(str(n), "ö" * ((n - 1) // 2) + "#" * ((n - 1) % 2), greedy(max_tokens=50))
        for n in (context, context - 1, context - 5)
    ]
    given = complete(tiny, requests)
    assert [given[r.id].n_prompt_tokens for r in requests] == [context, context - 1, context - 5]
    assert given[str(context)].finish_reason == "error"
    assert f"context of {context}" in str(given[str(context)].error)
    for n, left in ((context - 1, 1), (context - 5, 5)):
        assert (given[str(n)].finish_reason, given[str(n)].n_completion_tokens) == ("length", left)


def test_text_is_continued_and_messages_go_through_the_template(
    tiny: ModelSource, complete: Complete
) -> None:
    messages = [{"role": "user", "content": "The quick brown"}]
    chat = one(complete, replace(tiny, prompt_format="chat"), greedy(), prompt=messages)
    written_out = "<|user|>The quick brown<|assistant|>"  # the tokenizer adds <s> to text itself
    assert chat == one(complete, tiny, greedy(), prompt=written_out)
    text = one(complete, tiny, greedy(), prompt="The quick brown")
    assert chat.text != text.text
    assert chat.n_prompt_tokens == text.n_prompt_tokens + 2


def test_messages_that_cannot_be_rendered(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    engine._tokenizer.chat_template = "{{ raise_exception('no system turn') }}"
    request = Request("one", [{"role": "system", "content": "Be brief."}], greedy())
    (completion,) = engine.generate([request])
    assert completion.finish_reason == "error"
    assert "no system turn" in str(completion.error)
    engine._tokenizer.chat_template = None
    with pytest.raises(ModelError, match="prompt_format: text"):
        list(engine.generate([request]))


def test_an_empty_prompt_is_a_bad_row(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    engine._codec._tokens = lambda prompt, _: [] if prompt == "" else [1, 9]  # type: ignore[method-assign,assignment]
    requests = [Request("empty", "", greedy()), Request("fine", "x", greedy())]
    given = {completion.id: completion for completion in engine.generate(requests)}
    assert given["empty"].finish_reason == "error"
    assert "empty" in str(given["empty"].error)
    assert given["fine"].n_completion_tokens > 0


def test_an_adapter_changes_the_text_and_is_the_merged_model(
    tiny: ModelSource, complete: Complete, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted: Any = get_peft_model(load_model(tiny), config)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    load_tokenizer(tiny).save_pretrained(tmp_path / "merged")
    requests = requests_for(greedy())
    plain = complete(tiny, requests)
    with_adapter = complete(replace(tiny, adapters=(str(tmp_path / "adapter"),)), requests)
    assert with_adapter == complete(replace(tiny, path=str(tmp_path / "merged")), requests)
    assert all(with_adapter[key].text != plain[key].text for key in plain)


def test_requests_are_read_no_further_than_the_window(tiny: ModelSource) -> None:
    read = 0

    def endless() -> Iterator[Request]:
        nonlocal read
        for read in itertools.count(1):
            yield Request(str(read), "The", greedy(max_tokens=2))

    engine = TransformersEngine(tiny, TransformersSettings(batch_size=2, device="cpu"))
    completions = engine.generate(endless())
    assert read == 0
    first = [next(completions) for _ in range(32)]
    assert len({completion.id for completion in first}) == 32
    assert read == 32
    next(completions)
    assert read == 64


def test_the_engine_can_be_used_again_and_by_nobody(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    requests = requests_for(SamplingSettings(max_tokens=10))
    assert list(engine.generate([])) == []
    assert list(engine.generate(requests)) == list(engine.generate(requests))


def test_directories_without_safe_weights_are_refused(tiny: ModelSource, tmp_path: Path) -> None:
    path = tmp_path / "model"
    shutil.copytree(tiny.path, path)
    source = replace(tiny, path=str(path))
    (path / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no weights"):
        TransformersEngine(source, TransformersSettings(device="cpu"))
    (path / "pytorch_model.bin").write_bytes(b"never unpickled")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin.*can run code"):
        TransformersEngine(source, TransformersSettings(device="cpu"))


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_to_lower(tiny: ModelSource, raised: Exception) -> None:
    def fail(**inputs: Any) -> None:
        raise raised

    engine = TransformersEngine(tiny, TransformersSettings(batch_size=3, device="cpu"))
    engine._model.forward = fail
    with pytest.raises(ModelError, match=r"2 prompts of up to .* tokens; lower engine\.batch_size"):
        list(engine.generate(requests_for(greedy())[:2]))


def test_other_failures_and_nan_are_not_hidden(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    with torch.no_grad():
        engine._model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="computes NaN"):
        list(engine.generate(requests_for(greedy())))
    del engine._model.model.norm
    with pytest.raises(AttributeError):
        list(engine.generate(requests_for(greedy())))


def test_structured_output_is_refused_and_says_who_can(tiny: ModelSource) -> None:
    engine = TransformersEngine(tiny, TransformersSettings(device="cpu"))
    request = Request("r", "The", greedy(), structure=StructuredOutput(choice=("a", "b")))
    with pytest.raises(ModelError, match=r"request 'r'.*model 'tiny' to vllm or openai"):
        list(engine.generate([request]))


def test_tokens_are_those_that_were_sampled_each_with_its_own_likelihood(tiny: ModelSource) -> None:
    sampling = SamplingSettings(temperature=1.5, top_k=60, max_tokens=40)
    requests = requests_for(sampling, tokens=True)
    engine = TransformersEngine(tiny, TransformersSettings(batch_size=3, device="cpu"))
    tokenizer = load_tokenizer(tiny)
    found = {done.id: done for done in engine.generate(requests)}
    asked = []
    for request in requests:
        done = found[request.id]
        assert done.token_ids is not None
        assert done.logprobs is not None
        assert len(done.token_ids) == len(done.logprobs) == done.n_completion_tokens
        assert (done.token_ids[-1] == tokenizer.eos_token_id) == (done.finish_reason == "stop")
        assert decode(tiny, list(done.token_ids)) == done.text
        prompt = tokenizer(request.prompt)["input_ids"]
        asked.append(ScoreRequest(request.id, prompt, done.token_ids))
    assert {done.finish_reason for done in found.values()} == {"stop", "length"}
    for score in engine.score(asked):  # at temperature 1, whatever it was sampled at
        assert score.logprobs == pytest.approx(found[score.id].logprobs, abs=1e-4)
    again = [tokenizer.encode(done.text, add_special_tokens=False) for done in found.values()]
    written = [[id_ for id_ in d.token_ids or () if id_ != 2] for d in found.values()]
    assert again != written  # a text that is read again is not always what was sampled
