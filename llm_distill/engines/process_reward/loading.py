"""Reward models as one function: from token ids to two logits, wrong and right, at given places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from llm_distill.errors import ModelError
from llm_distill.models.limits import check_ids, n_rows
from llm_distill.models.sources import ModelSource, load_model

Judge = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""ids [batch, length], rows [n], places [n] → logits [n, 2]: of wrong, of right."""

Loaded = tuple[Judge, int]
"""A judge, and how many token ids its model has a row for."""


def next_token_judge(source: ModelSource, device: str, bad: int, good: int) -> Loaded:
    """The logits of two tokens.

    The output layer is cut down to the rows of these tokens, so that no tensor has the size of a
    vocabulary; what a model does to its logits (a scale, a cap) it does to these two as well.

    Raises:
        ModelError: it cannot be loaded, its output layer is not an `nn.Linear`, or it has no row
            for one of the tokens.
    """
    model: Any = load_model(source, device=device)
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        raise ModelError(
            f"the output layer of model '{source.name}' is {type(head).__name__}, not nn.Linear; "
            "if an adapter changes it, merge that first (stage merge_adapter)"
        )
    check_ids(max(bad, good), len(head.weight), source.name, "the verdicts")
    rows = [bad, good]
    bias = None if head.bias is None else head.bias.detach()[rows]
    model.set_output_embeddings(_linear(head.weight.detach()[rows], bias))

    def judge(ids: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits[rows, places]
        return logits.float()

    return judge, n_rows(model)


def classification_judge(source: ModelSource, device: str) -> Loaded:
    """What a head of two labels makes of the last hidden states.

    Raises:
        ModelError: it cannot be loaded, or has no such head.
    """
    if source.adapters:
        raise ModelError(
            f"model '{source.name}' is an adapter; kind: token_classification needs a whole model "
            "with its head"
        )
    model: Any = load_model(source, device=device, with_head=False)
    head = classification_head(source, model.config.get_text_config().hidden_size).to(device)

    def judge(ids: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        states = model(input_ids=ids, use_cache=False).last_hidden_state[rows, places]
        logits: torch.Tensor = head(states.float())
        return logits

    return judge, n_rows(model)


def check_is_causal(judge: Judge, name: str, device: str) -> None:
    """Refuse a model in which a later token changes an earlier step's reward.

    Raises:
        ModelError: it reads in both directions.
    """
    ids = torch.tensor([[1, 2], [1, 3]], device=device)
    rows, places = torch.tensor([0, 1], device=device), torch.tensor([0, 0], device=device)
    with torch.inference_mode():
        one, other = judge(ids, rows, places)
    if not torch.allclose(one, other, atol=1e-3, equal_nan=True):
        raise ModelError(
            f"model '{name}' reads text in both directions, so that a step's reward depends on "
            "the steps after it; a process reward model is a causal one"
        )


def classification_head(source: ModelSource, width: int) -> nn.Module:
    """The head of a checkpoint, in float32: `score.*`, one layer, or two with a ReLU between.

    One layer is transformers' AutoModelForTokenClassification, two are Qwen2.5-Math-PRM's, which
    comes with code of its own; that is not run.

    width: the size of a hidden state.

    Raises:
        ModelError: there is no such head, it has other than two labels, or it takes other states.
    """
    tensors = _tensors(source, "score.")
    names = set(tensors)

    def layer(prefix: str) -> nn.Linear:
        return _linear(tensors[f"{prefix}weight"], tensors.get(f"{prefix}bias"))

    if {"0.weight", "2.weight"} <= names <= {"0.weight", "0.bias", "2.weight", "2.bias"}:
        layers = [layer("0."), nn.ReLU(), layer("2.")]
    elif {"weight"} <= names <= {"weight", "bias"}:
        layers = [layer("")]
    else:
        found = ", ".join(sorted(f"score.{name}" for name in names)) or "no score.*"
        raise ModelError(
            f"model '{source.name}' ({source.path}) has no head that scores steps: expected "
            f"score.weight, or score.0.weight and score.2.weight, found {found}; a model that "
            "answers with a token is of kind: next_token"
        )
    takes, gives = layers[0].in_features, layers[-1].out_features
    if (takes, gives) != (width, 2):
        raise ModelError(
            f"model '{source.name}' ({source.path}) has a head from {takes} numbers to {gives} "
            f"labels; from {width} to 2 (wrong, right) is needed"
        )
    return nn.Sequential(*layers).eval()


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return layer


def _tensors(source: ModelSource, prefix: str) -> dict[str, torch.Tensor]:
    """The tensors, in float32, whose names begin with `prefix`, by the rest of their names."""
    from safetensors import safe_open

    found: dict[str, torch.Tensor] = {}
    for file in sorted(_folder(source).glob("*.safetensors")):
        with safe_open(file, framework="pt") as content:
            for name in content.keys():  # noqa: SIM118 (not a mapping)
                if name.startswith(prefix):
                    found[name.removeprefix(prefix)] = content.get_tensor(name).float()
    return found


def _folder(source: ModelSource) -> Path:
    """Where the weights are; those of the Hub have been downloaded by now."""
    if source.is_local:
        return Path(source.path)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(source.path, revision=source.revision, local_files_only=True))
