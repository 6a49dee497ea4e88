"""The ALM loss of one pair of texts, beside the ULD loss of TRL's GOLD trainer.

    python benchmarks/chunk_loss.py
    python benchmarks/chunk_loss.py --device cuda --tokens 1024 1080

One text, which the student cuts into 256 tokens of a vocabulary of 128,256 and the teacher into 270
of 151,936; float32, one thread, or bfloat16 on a GPU. Measured is from the hidden states of both
models to the gradients of the student's hidden states and of its output layer's weights, the same
tensors for either loss: GOLD needs both models' logits in each step, and its strategies for split
tokens are `observed` and `bayesian`; ALM computes the student's in tiles, twice, and reads the
teacher's side from disk (what that costs, once for all epochs and students, is printed below). Each
way is taken twice, forwards and backwards through the table.

Twice over: with hidden states of 16 numbers, where the output layers cost next to nothing, so that
what is left is the loss; and with 2048, where their products cost what they cost in training.

Bars, for the loss: 40 times as fast as GOLD's, in a quarter of its memory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hardware import describe
from memory import allocated_above, peak_above
from table import show

from llm_distill.distillation.lm_head.head import Head, head_logps
from llm_distill.methods.alignment import align
from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

BAR = 40.0
MEMORY_BAR = 0.25
WIDTHS = 16, 2048
OURS = "ALM, in tiles"
TEMPERATURE = 100.0
BYTES_PER_TOKEN = 1100 / 256
SHARE_COMMON = 220 / 256
"""Of the student's tokens, how many end where one of the teacher's does."""


@dataclass(frozen=True)
class Side:
    """A model's part: hidden [N + 1, H], of a token before the text and the text's own N."""

    hidden: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    ends: np.ndarray[Any, np.dtype[np.int64]]
    boundary_tokens: torch.Tensor


@dataclass(frozen=True)
class Cost:
    """peak: bytes, above what was there before."""

    seconds: float
    peak: int


def sides(
    sizes: tuple[int, int], vocabularies: tuple[int, int], width: int, device: str
) -> tuple[Side, Side]:
    """Student and teacher, random but for where their tokens end."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    n_bytes = round(BYTES_PER_TOKEN * sizes[0])
    places = rng.permutation(np.arange(1, n_bytes))
    common = min(round(SHARE_COMMON * sizes[0]), min(sizes) - 1)
    kind = {"device": device, "dtype": torch.float32 if device == "cpu" else torch.bfloat16}
    made, used = [], common
    for n, vocabulary in zip(sizes, vocabularies, strict=True):
        own = places[used : used + n - 1 - common]
        used += len(own)
        ends = np.sort(np.concatenate([places[:common], own, [n_bytes]]))
        made.append(
            Side(
                torch.randn(n + 1, width).to(**kind),
                (torch.randn(vocabulary, width) / width**0.5).to(**kind),
                torch.randint(vocabulary, (n + 1,)).to(device),
                ends.astype(np.int64),
                (torch.rand(vocabulary) < 0.5).to(device),
            )
        )
    return made[0], made[1]


def gold(student: Side, teacher: Side, strategy: str) -> Callable[[], None]:
    from trl.experimental.gold.gold_trainer import ULDLoss

    config = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,  # there is no end token here
        uld_skip_teacher_eos=False,
        use_extended_uld=True,
        uld_token_merge_strategy=strategy,
    )
    loss_of = ULDLoss(config)

    def labels(side: Side) -> torch.Tensor:
        return torch.cat([torch.full_like(side.ids[:1], -100), side.ids[1:]])[None]

    def offsets(side: Side) -> torch.Tensor:
        spans = np.stack([np.concatenate([[0], side.ends[:-1]]), side.ends], 1)
        return torch.from_numpy(np.concatenate([[[0, 0]], spans]))[None]

    def loss(logits: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = loss_of(
            logits[None],
            given[None],
            labels(student),
            labels(teacher),
            student.ids[None],
            teacher.ids[None],
            student_byte_offsets=offsets(student),
            teacher_byte_offsets=offsets(teacher),
        )
        return found

    def step() -> None:
        with torch.no_grad():
            given = teacher.hidden @ teacher.weight.T
        leaves = student.hidden.requires_grad_(), student.weight.requires_grad_()
        torch.autograd.grad(loss(leaves[0] @ leaves[1].T, given), leaves)

    return step


def alm(student: Side, teacher: Side) -> Callable[[], None]:
    """The teacher's chunk sums are there already."""
    chunks = align(student.ends, teacher.ends)
    n_chunks, device = len(chunks.last_a), student.ids.device
    places = np.searchsorted(chunks.last_a, np.arange(len(student.ends)))
    chunk_of = torch.from_numpy(places).to(device)
    last = torch.from_numpy(chunks.last_a).to(device) + 1  # after the token before the text
    targets = torch.cat([student.ids[1:], student.ids[:1]])  # the last place has none
    scored = -3 * torch.rand(n_chunks).to(device)

    def step() -> None:
        leaves = student.hidden.requires_grad_(), student.weight.requires_grad_()
        logps, boundary_logps = head_logps(
            leaves[0], Head(leaves[1]), targets, student.boundary_tokens
        )
        assert boundary_logps is not None
        sums = chunk_sums(logps[:-1], chunk_of, n_chunks) + boundary_logps[last]
        torch.autograd.grad(chunk_divergence(scored, sums, TEMPERATURE).mean(), leaves)

    return step


def measure(step: Callable[[], None], device: str) -> Cost:
    start = time.perf_counter()
    _, peak = peak_above(step) if device == "cpu" else allocated_above(step)
    return Cost(time.perf_counter() - start, peak)


def compare(options: argparse.Namespace, width: int) -> None:
    student, teacher = sides(options.tokens, options.vocabularies, width, options.device)
    ways = {
        "GOLD, observed": gold(student, teacher, "observed"),
        "GOLD, bayesian": gold(student, teacher, "bayesian"),
        OURS: alm(student, teacher),
    }
    if options.device == "cuda":
        ways[OURS]()  # kernels are compiled
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for name in [*ways, *reversed(ways)]:
        costs[name].append(measure(ways[name], options.device))

    def scored() -> None:
        with torch.no_grad():
            head_logps(teacher.hidden, Head(teacher.weight), teacher.ids, teacher.boundary_tokens)

    once = measure(scored, options.device).seconds
    seconds = {name: sum(cost.seconds for cost in found) / 2 for name, found in costs.items()}
    peak = {name: max(cost.peak for cost in found) for name, found in costs.items()}
    is_barred = width == WIDTHS[0]
    print(f"\nhidden size {width}, means of two passes")
    show(
        ("", "s", "memory above, MB", "ALM: times as fast", "of the memory"),
        [
            (
                name,
                f"{seconds[name]:.3f}",
                f"{peak[name] / 1e6:.0f}",
                f"{seconds[name] / seconds[OURS]:.1f}" + f" (bar {BAR:g})" * is_barred,
                f"{peak[OURS] / peak[name]:.2f}" + f" (bar {MEMORY_BAR:g})" * is_barred,
            )
            if name != OURS
            else (name, f"{seconds[name]:.3f}", f"{peak[name] / 1e6:.0f}", "", "")
            for name in ways
        ],
    )
    print(f"the teacher's side of ALM, once for all epochs and students: {once:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs=2, default=(256, 270))
    parser.add_argument("--vocabularies", type=int, nargs=2, default=(128_256, 151_936))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(describe("torch", "trl"))
    print(f"tokens {options.tokens}, vocabularies {options.vocabularies}")
    for width in WIDTHS:
        compare(options, width)


if __name__ == "__main__":
    main()
