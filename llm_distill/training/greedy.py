"""What a model in training writes after a few prompts, in one batch and without an engine."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple


class Greedy(NamedTuple):
    """What was written after each prompt, with what ends it and padding after that.

    entropies: by prompt and token, of the distribution that it was taken from, in nats.
    """

    ids: list[list[int]]
    entropies: list[list[float]]


def write_greedily(
    model: Any, prompts: Sequence[Sequence[int]], ends: Collection[int], pad: int, most: int
) -> Greedy:
    """At most `most` token ids after each prompt's.

    The model's own generation config has no say: it may draw, or forbid to repeat.
    """
    import torch
    from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

    class Watching(LogitsProcessor):  # type: ignore[misc]
        """A class, since transformers looks a bare function's signature up anew for each token."""

        def __call__(self, _: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            logps = scores.float().log_softmax(-1)
            entropies.append(torch.special.entr(logps.exp()).sum(-1))
            return scores

    width = max(map(len, prompts))
    ids = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    greedy = GenerationConfig(
        max_new_tokens=most,
        do_sample=False,
        use_cache=True,
        num_beams=1,  # what is not given here is taken from the model's own config
        num_return_sequences=1,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=sorted(ends),
        pad_token_id=pad,
    )
    entropies: list[torch.Tensor] = []
    was_training = model.training
    model.eval()
    with torch.no_grad(), as_loaded(model):
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            generation_config=greedy,
            logits_processor=LogitsProcessorList([Watching()]),
        )
    model.train(was_training)
    return Greedy(out[:, width:].tolist(), torch.stack(entropies, 1).tolist())


@contextmanager
def as_loaded(model: Any) -> Iterator[None]:
    """Take back for a moment what a trainer has made of a forward pass.

    Where the weights are divided among processes, generate is told to gather them as forward does.
    """
    from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    changed = vars(inner).pop("forward", None)
    if isinstance(model, FSDPModule):
        register_fsdp_forward_method(model, "generate")
    try:
        yield
    finally:
        if changed is not None:
            inner.forward = changed
