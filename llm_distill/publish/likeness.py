"""How like the model it was made from an exported one is, once it is loaded again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_distill.errors import ModelError, first_line
from llm_distill.models.sources import ModelSource, load_model, own_tokenizer

LONGEST = 512
"""Tokens of a text that are compared."""
MOST_ROUNDING = 1e-3
"""Nats by which a likelihood may change where weights are only added up, in float32."""


@dataclass(frozen=True)
class Likeness:
    """Of the next tokens of some texts, under both models.

    Attributes:
        tokens: how many were compared.
        same_first: share of them before which both find the same token likeliest.
        difference: mean absolute difference of the token's log-probability, in nats.
        largest: the largest.
        same_tokens: whether the exported tokenizer cuts the texts alike.
    """

    tokens: int
    same_first: float
    difference: float
    largest: float
    same_tokens: bool

    def __str__(self) -> str:
        cut = "" if self.same_tokens else "; its tokenizer cuts texts differently"
        return (
            f"{self.tokens:,} tokens compared: the same likeliest token in {self.same_first:.1%} "
            f"of the places; log-probabilities differ by {self.difference:.2g} nats on average, "
            f"{self.largest:.2g} at most{cut}"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def likeness(
    source: ModelSource, folder: Path, texts: Sequence[str], gguf: str | None = None
) -> Likeness:
    """Load an export as anyone would, and compare it with the model that it is of.

    Raises:
        ModelError: it cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer: Any = own_tokenizer(source)
    place: dict[str, Any] = {} if gguf is None else {"gguf_file": gguf}
    try:
        other_tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), **place)
        exported: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), trust_remote_code=False, **place, **_dtype(gguf)
        ).eval()
    except Exception as error:  # whatever the library makes of it
        raise ModelError(f"what was written cannot be loaded again: {first_line(error)}") from error
    model: Any = load_model(source)
    same, ours, theirs, firsts = True, [], [], []
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST]
            again = other_tokenizer(text, add_special_tokens=False)["input_ids"][:LONGEST]
            same = same and ids == again
            if len(ids) < 2:
                continue
            tokens = torch.tensor([ids])
            found = [_log_probabilities(each, tokens) for each in (model, exported)]
            (mine, first), (other, other_first) = found
            ours.append(mine)
            theirs.append(other)
            firsts.append(first == other_first)
    if not ours:
        raise ModelError("there is no text by which the export could be compared")
    apart = (torch.cat(ours) - torch.cat(theirs)).abs()
    return Likeness(
        len(apart),
        float(torch.cat(firsts).float().mean()),
        float(apart.mean()),
        float(apart.max()),
        same,
    )


def _dtype(gguf: str | None) -> dict[str, Any]:
    """A GGUF is unpacked in full precision; others are loaded as they are."""
    import torch

    return {"dtype": torch.float32} if gguf is not None else {}


def _log_probabilities(model: Any, tokens: Any) -> tuple[Any, Any]:
    """Of each token after the first, and the likeliest one in its place."""
    logits = model(input_ids=tokens.to(model.device), use_cache=False).logits[0, :-1].float().cpu()
    chosen = logits.log_softmax(-1).gather(1, tokens[0, 1:, None])[:, 0]
    return chosen, logits.argmax(-1)
