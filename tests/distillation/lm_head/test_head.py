"""The tiled output layer against the dense one: values, gradients, dtypes, real architectures."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch

from llm_distill.distillation.lm_head import head as module
from llm_distill.distillation.lm_head import tile_operations, tiles
from llm_distill.distillation.lm_head.head import Head, head_logps, top_tokens
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.errors import ModelError

N, H, V = 7, 5, 23
SHAPES = {
    "plain": {},
    "scaled": {"scale": 0.25},
    "capped": {"soft_cap": 3.0},
    "both": {"scale": 2.0, "soft_cap": 3.0},
}


@pytest.fixture(params=[(3, 15), (1, 1), (100, 10**6)], ids=["tiles", "single", "whole"])
def in_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """3 positions by 5 tokens, neither of which divides what there is; one by one; all at once."""
    rows, size = request.param
    monkeypatch.setattr(module, "MOST_ROWS", {"cpu": rows})
    monkeypatch.setattr(module, "TILE_SIZE", {"cpu": size})


def case(dtype: torch.dtype, bias: bool, **shape: Any) -> tuple[torch.Tensor, Head, Any, Any]:
    torch.manual_seed(0)
    hidden = (3 * torch.randn(N, H)).to(dtype).requires_grad_()
    weight = torch.randn(V, H).to(dtype).requires_grad_()
    offset = torch.randn(V).to(dtype).requires_grad_() if bias else None
    targets = torch.tensor([0, V - 1, 4, 5, 14, 15, 0])
    boundary_tokens = torch.zeros(V, dtype=torch.bool)
    boundary_tokens[[0, 3, 21]] = True  # there are tiles without any
    return hidden, Head(weight, offset, **shape), targets, boundary_tokens


def dense(hidden: Any, head: Head, targets: Any, boundary_tokens: Any) -> tuple[Any, Any]:
    logits = hidden @ head.weight.T + (0 if head.bias is None else head.bias)
    logits = logits * head.scale
    if head.soft_cap:
        logits = head.soft_cap * torch.tanh(logits / head.soft_cap)
    logps = logits.log_softmax(-1)
    enumerated = [sum(row[v].exp() for v in range(V) if boundary_tokens[v]).log() for row in logps]
    return logps[range(N), targets], torch.stack(enumerated)


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_values_and_gradients_are_those_of_the_dense_layer(
    shape: dict[str, float], bias: bool
) -> None:
    hidden, head, targets, boundary_tokens = case(torch.float64, bias, **shape)
    inputs = [t for t in (hidden, head.weight, head.bias) if t is not None]
    found, expected = (
        head_logps(hidden, head, targets, boundary_tokens),
        dense(hidden, head, targets, boundary_tokens),
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    a, b = torch.randn(2, N, dtype=torch.float64)
    grads = [torch.autograd.grad(a @ x + b @ y, inputs) for x, y in (found, expected)]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
    bare, none = head_logps(hidden, head, targets, None)
    assert none is None
    torch.testing.assert_close(bare, expected[0])
    expected = dense(hidden, head, targets, boundary_tokens)
    grads = [torch.autograd.grad(a @ x, inputs) for x in (bare, expected[0])]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.usefixtures("in_tiles")
def test_gradients_by_differences() -> None:
    hidden, head, targets, boundary_tokens = case(torch.float64, True, scale=0.5, soft_cap=4.0)

    def function(h: Any, w: Any, b: Any) -> Any:
        return head_logps(h, Head(w, b, 0.5, 4.0), targets, boundary_tokens)

    assert torch.autograd.gradcheck(function, (hidden, head.weight, head.bias))


@pytest.mark.usefixtures("in_tiles")
def test_bfloat16_weights_are_summed_in_float32() -> None:
    hidden, head, targets, boundary_tokens = case(torch.bfloat16, False)
    found = head_logps(hidden, head, targets, boundary_tokens)
    assert found[0].dtype == torch.float32
    logits = (hidden @ head.weight.T).float().log_softmax(-1)
    torch.testing.assert_close(found[0], logits[range(N), targets])
    grads = torch.autograd.grad(found[0].sum() + found[1].sum(), [hidden, head.weight])
    exact = [t.detach().double().requires_grad_() for t in (hidden, head.weight)]
    expected = dense(exact[0], Head(exact[1]), targets, boundary_tokens)
    wanted = torch.autograd.grad(expected[0].sum() + expected[1].sum(), exact)
    for one, other in zip(grads, wanted, strict=True):
        assert one.dtype == torch.bfloat16
        torch.testing.assert_close(one.double(), other, atol=0.05, rtol=0.05)


def test_autocast_is_the_same_in_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, boundary_tokens = case(torch.float32, False)
    with torch.autocast("cpu", torch.bfloat16):
        x, y = head_logps(hidden, head, targets, boundary_tokens)
    d_hidden, d_weight = torch.autograd.grad(x.sum() + y.sum(), [hidden, head.weight])
    rounded = [t.detach().bfloat16().requires_grad_() for t in (hidden, head.weight)]
    again = head_logps(rounded[0], Head(rounded[1]), targets, boundary_tokens)
    torch.testing.assert_close(x, again[0])
    wanted = torch.autograd.grad(again[0].sum() + again[1].sum(), rounded)
    assert d_weight.dtype == torch.float32
    torch.testing.assert_close(d_hidden.bfloat16(), wanted[0])
    torch.testing.assert_close(d_weight.bfloat16(), wanted[1])


def test_what_is_frozen_gets_no_gradient_and_costs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head, targets, boundary_tokens = case(torch.float64, True)
    frozen = Head(head.weight.detach(), head.bias.detach() if head.bias is not None else None)
    made: list[tuple[int, ...]] = []
    zeros_like = torch.zeros_like
    monkeypatch.setattr(
        torch, "zeros_like", lambda t, **k: (made.append(tuple(t.shape)), zeros_like(t, **k))[1]
    )
    sum(t.sum() for t in head_logps(hidden, frozen, targets, boundary_tokens)).backward()  # type: ignore[union-attr]
    assert hidden.grad is not None
    assert (V, H) not in made


def test_without_a_gpu_that_triton_works_on_torch_does_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "llm_distill.distillation.lm_head.triton_kernels", None)
    tile_operations._triton_works.cache_clear()
    torchs = tiles.accumulate, tiles.backward
    assert tile_operations.tile_operations(torch.device("cpu"), torch.float32) == torchs
    assert not caplog.messages
    assert tile_operations.tile_operations(torch.device("cuda"), torch.float32) == torchs
    assert "no Triton on cuda" in caplog.text


def test_no_positions_and_targets_outside_the_vocabulary() -> None:
    hidden, head, targets, boundary_tokens = case(torch.float32, False)
    logps, boundary_logps = head_logps(hidden[:0], head, targets[:0], boundary_tokens)
    assert logps.shape == (0,)
    assert boundary_logps is not None
    assert boundary_logps.shape == (0,)
    targets[2], targets[3] = V, -1
    assert head_logps(hidden, head, targets, boundary_tokens)[0].isnan().tolist() == [
        i in (2, 3) for i in range(N)
    ]


def test_an_unlikely_set_keeps_its_likelihood_and_gradients_finite() -> None:
    """p(boundary) is less than float32 can hold."""
    weight = torch.tensor([[1.0], [-150.0]], requires_grad=True)
    hidden = torch.ones(1, 1, requires_grad=True)
    boundary_tokens = torch.tensor([False, True])
    _, boundary_logps = head_logps(hidden, Head(weight), torch.tensor([0]), boundary_tokens)
    assert boundary_logps is not None
    assert boundary_logps.item() == pytest.approx(-151)
    boundary_logps.sum().backward()
    assert hidden.grad is not None
    assert torch.isfinite(hidden.grad).all()


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("k", [1, 4, V])
def test_the_likeliest_tokens(k: int) -> None:
    hidden, head, _, _ = case(torch.float64, True, soft_cap=3.0)
    found = top_tokens(hidden, head, k, V)
    expected = head.logits(hidden).log_softmax(-1).topk(k)
    torch.testing.assert_close(found.logps, expected.values)
    assert found.ids.tolist() == expected.indices.tolist()


@pytest.mark.usefixtures("in_tiles")
@pytest.mark.parametrize("n_tokens", [3, 5, 7, 22])
def test_padding_of_the_vocabulary_is_never_among_the_likeliest(n_tokens: int) -> None:
    """Though it may be likelier than any token; tiles of 5 end before it, in it and after it."""
    hidden, head, _, _ = case(torch.float64, False)
    with torch.no_grad():
        head.weight[n_tokens:] *= 3
        head.weight[V - 1] = 9 * hidden[0]  # at the first position nearly all is padding's
    expected = head.logits(hidden).log_softmax(-1)
    assert expected.argmax(-1)[0] >= n_tokens
    for k in (1, n_tokens):
        found, best = top_tokens(hidden, head, k, n_tokens), expected[:, :n_tokens].topk(k)
        torch.testing.assert_close(found.logps, best.values)
        assert found.ids.tolist() == best.indices.tolist()


def small(kind: str, **more: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {
        "vocab_size": 40, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes | more))
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(std=2)
    return model.eval()


ARCHITECTURES = {
    "llama": {},
    "gemma2": {"final_logit_softcapping": 2.0},
    "cohere": {"logit_scale": 0.0625},
    "granite": {"logits_scaling": 8.0},
    "opt": {"ffn_dim": 32, "word_embed_proj_dim": 16},  # skips a part of its backbone
    "recurrent_gemma": {"num_hidden_layers": 3, "logits_soft_cap": 2.0},
    "phi": {},  # with a bias
    "qwen3": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_architectures_give_their_own_logits(kind: str) -> None:
    model = small(kind, **ARCHITECTURES[kind])
    head, ids = head_of(model), torch.randint(3, 40, (2, 9))
    with torch.no_grad():
        logps = model(ids).logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0]
        hidden = backbone_of(model)(ids).last_hidden_state[:, :-1]
        found, _ = head_logps(hidden.flatten(0, 1), head, ids[:, 1:].flatten(), None)
    torch.testing.assert_close(found, logps.flatten(), atol=1e-5, rtol=1e-5)


def test_adapters_stay_active_and_one_on_the_head_is_an_error() -> None:
    from peft import LoraConfig, get_peft_model

    ids = torch.randint(3, 40, (1, 9))
    adapted = get_peft_model(small("llama"), LoraConfig(target_modules=["q_proj", "down_proj"]))
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    head = head_of(adapted)
    with torch.no_grad():
        torch.testing.assert_close(
            head.logits(backbone_of(adapted)(ids).last_hidden_state), adapted(ids).logits
        )
    with pytest.raises(ModelError, match="under an adapter"):
        head_of(get_peft_model(small("llama"), LoraConfig(target_modules=["lm_head"])))
    some = {"embed_tokens": [1, 2], "lm_head": [1, 2]}
    with pytest.raises(ModelError, match="under an adapter"):
        head_of(get_peft_model(small("llama"), LoraConfig(trainable_token_indices=some)))


def test_an_output_layer_that_is_trained_whole_beside_an_adapter_is_read() -> None:
    from peft import LoraConfig, get_peft_model

    settings = {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}
    adapted = get_peft_model(small("llama"), LoraConfig(**settings))
    copy = adapted.get_output_embeddings().modules_to_save["default"].weight
    torch.nn.init.normal_(copy)
    ids = torch.randint(3, 40, (1, 9))
    assert head_of(adapted).weight is copy
    with torch.no_grad():
        torch.testing.assert_close(
            head_of(adapted).logits(backbone_of(adapted)(ids).last_hidden_state),
            adapted(ids).logits,
        )


def test_a_model_that_is_its_own_base_model_is_an_error() -> None:
    model = small("llama4_text", intermediate_size_mlp=32, num_local_experts=2)
    assert model.base_model is model
    with pytest.raises(ModelError, match="Llama4ForCausalLM does not say .* the backbone"):
        head_of(model)


def test_an_architecture_that_does_something_else_is_an_error() -> None:
    model = small("llama")
    whole = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        output = whole(*args, **kwargs)
        output.logits = output.logits * 1.01
        return output

    model.forward = forward
    with pytest.raises(ModelError, match="LlamaForCausalLM are not those of its output layer"):
        head_of(model)
