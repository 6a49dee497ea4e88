"""What a student's gradients are, from whole logits of one row at a time, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import rms_norm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from llm_distill.distillation.gradients.student import Student
from llm_distill.distillation.gradients.texts import Text, Texts, read_texts
from llm_distill.models.sources import ModelSource
from llm_distill.stages.score_influence import ScoreInfluence
from llm_distill.training.warm_up import start_model

STAGE = {"stage": "score_influence", "rows": "r", "reference": "v", "model": "s"}


def settings(**more: Any) -> ScoreInfluence:
    return ScoreInfluence(**{**STAGE, "peft": None, **more})


def model_of(source: ModelSource, stage: ScoreInfluence) -> Any:
    """In float64 throughout, with an adapter that is not as it begins, if there is one."""
    model = start_model(stage, source, 0).double()
    for module in model.modules():
        if isinstance(module, LlamaRMSNorm):  # whose own way goes through float32
            module.forward = partial(_norm, weight=module.weight, eps=module.variance_epsilon)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / 20)
    return model


def student_of(model: Any, batch_tokens: int = 8192) -> Student:
    return Student(model, "s", batch_tokens)


def texts_of(stage: ScoreInfluence, source: ModelSource, rows: Sequence[dict[str, Any]]) -> Texts:
    return read_texts(rows, stage, stage.encoder(source))


def loss(model: Any, text: Text) -> torch.Tensor:
    """The mean loss of a text's tokens."""
    ids = torch.from_numpy(text.ids).long()
    logps = model(input_ids=ids[None]).logits[0].log_softmax(-1)
    return -torch.stack([logps[place - 1, ids[place]] for place in text.places]).mean()


def mean_loss(model: Any, texts: Sequence[Text]) -> torch.Tensor:
    return torch.stack([loss(model, text) for text in texts]).mean()


def trained(model: Any) -> list[torch.nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def gradient(model: Any, of: torch.Tensor) -> torch.Tensor:
    """All of it, as one vector."""
    found = torch.autograd.grad(of, trained(model))
    return torch.cat([part.flatten() for part in found])


def _norm(hidden: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return rms_norm(hidden, [len(weight)], weight, eps)
