"""The ALM loss of one pair of texts, beside the ULD loss of TRL's GOLD trainer.

    python benchmarks/chunk_loss.py

One text, which the student cuts into 256 tokens of a vocabulary of 128,256 and the teacher into 270
of 151,936; float32, one thread. The hidden states of both models are given: what the backbones cost
is the same for either loss. The columns are

    loss alone: the loss and its gradients with respect to the student's logits, which are there
        already, as are the teacher's where the loss needs them.
    heads and loss: from the hidden states to the gradients of the student's hidden states and of
        its output layer's weights; with GOLD also the teacher's logits.
    memory above: the highest above what was there before, of heads and loss.

GOLD needs both models' logits in each step; its strategies for split tokens are `observed` and
`bayesian`. ALM reads the teacher's side from disk; what it costs to compute that, once for all
epochs and students, is printed below. The trainer uses ALM in tiles, which never holds the logits
and computes them twice; "dense" is the same loss from logits. Each way is taken twice, forwards and
backwards through the table.

Bars: the loss alone 10 times as fast as GOLD's; heads and loss in tiles no slower than GOLD's, with
less memory.
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
from memory import peak_above
from table import show

from llm_distill.distillation.head import Head, head_logps
from llm_distill.methods.alignment import align
from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

BAR = 40.0
MEMORY_BAR = 0.25
TEMPERATURE = 100.0
N_BYTES = 1100
N_COMMON = 220
"""Of the 1100 bytes of the text, how many end a token on both sides."""


@dataclass(frozen=True)
class Side:
    """A model's part: hidden [N + 1, H], of a token before the text and the text's own N."""

    hidden: torch.Tensor
    weight: torch.Tensor
    ids: torch.Tensor
    ends: np.ndarray[Any, np.dtype[np.int64]]
    opens: torch.Tensor


@dataclass(frozen=True)
class Cost:
    seconds: float
    loss_seconds: float | None
    peak: int


def sides(sizes: tuple[int, int], vocabularies: tuple[int, int], width: int) -> tuple[Side, Side]:
    """Student and teacher, random but for where their tokens end."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    places = rng.permutation(np.arange(1, N_BYTES))
    common = min(N_COMMON, min(sizes) - 1)
    made, used = [], common
    for n, vocabulary in zip(sizes, vocabularies, strict=True):
        own = places[used : used + n - 1 - common]
        used += len(own)
        ends = np.sort(np.concatenate([places[:common], own, [N_BYTES]]))
        made.append(
            Side(
                torch.randn(n + 1, width),
                torch.randn(vocabulary, width) / width**0.5,
                torch.randint(vocabulary, (n + 1,)),
                ends.astype(np.int64),
                torch.rand(vocabulary) < 0.5,
            )
        )
    return made[0], made[1]


def gold(student: Side, teacher: Side, strategy: str) -> Callable[[], float]:
    """Returns the seconds of the loss alone."""
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
        return torch.cat([torch.tensor([-100]), side.ids[1:]])[None]

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

    def step() -> float:
        with torch.no_grad():
            given = teacher.hidden @ teacher.weight.T
        return over_dense_logits(student, lambda logits: loss(logits, given))

    return step


def over_dense_logits(student: Side, loss: Callable[[torch.Tensor], torch.Tensor]) -> float:
    """A step; returns the seconds of the loss alone."""
    leaves = student.hidden.requires_grad_(), student.weight.requires_grad_()
    logits = leaves[0] @ leaves[1].T
    detached = logits.detach().requires_grad_()
    start = time.perf_counter()
    (gradient,) = torch.autograd.grad(loss(detached), detached)
    seconds = time.perf_counter() - start
    torch.autograd.grad(logits, leaves, gradient)
    return seconds


def alm(student: Side, teacher: Side) -> tuple[Callable[[], float], Callable[[], None]]:
    """Steps over dense logits and in tiles; the teacher's chunk sums are there already."""
    chunks = align(student.ends, teacher.ends)
    n_chunks = len(chunks.last_a)
    chunk_of = torch.from_numpy(np.searchsorted(chunks.last_a, np.arange(len(student.ends))))
    last = torch.from_numpy(chunks.last_a) + 1  # behind the token before the text
    targets = torch.cat([student.ids[1:], student.ids[:1]])  # the last place has none
    scored = -3 * torch.rand(n_chunks)

    def loss(logps: torch.Tensor, log_pbs: torch.Tensor) -> torch.Tensor:
        sums = chunk_sums(logps[:-1], chunk_of, n_chunks) + log_pbs
        return chunk_divergence(scored, sums, TEMPERATURE).mean()

    def dense(logits: torch.Tensor) -> torch.Tensor:
        log_z = logits.logsumexp(1)
        log_b = logits[last].masked_fill(~student.opens, -torch.inf).logsumexp(1)
        return loss(logits.gather(1, targets[:, None])[:, 0] - log_z, log_b - log_z[last])

    def tiled() -> None:
        leaves = student.hidden.requires_grad_(), student.weight.requires_grad_()
        logps, log_pbs = head_logps(leaves[0], Head(leaves[1]), targets, student.opens)
        assert log_pbs is not None
        torch.autograd.grad(loss(logps, log_pbs[last]), leaves)

    return lambda: over_dense_logits(student, dense), tiled


def measure(step: Callable[[], float | None]) -> Cost:
    start = time.perf_counter()
    loss_seconds, peak = peak_above(step)
    return Cost(time.perf_counter() - start, loss_seconds, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs=2, default=(256, 270))
    parser.add_argument("--vocabularies", type=int, nargs=2, default=(128_256, 151_936))
    parser.add_argument("--hidden-size", type=int, default=2048)
    options = parser.parse_args()
    torch.set_num_threads(1)
    student, teacher = sides(options.tokens, options.vocabularies, options.hidden_size)
    dense, tiled = alm(student, teacher)
    ways: dict[str, Callable[[], Any]] = {
        "GOLD, observed": gold(student, teacher, "observed"),
        "GOLD, bayesian": gold(student, teacher, "bayesian"),
        "ALM, dense": dense,
        "ALM, in tiles": tiled,
    }
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for name in [*ways, *reversed(ways)]:
        costs[name].append(measure(ways[name]))
    start = time.perf_counter()
    with torch.no_grad():
        head_logps(teacher.hidden, Head(teacher.weight), teacher.ids, teacher.opens)
    once = time.perf_counter() - start
    print(describe("torch", "trl"))
    print(f"tokens {options.tokens}, vocabularies {options.vocabularies}, means of two passes")
    whole = {name: sum(cost.seconds for cost in found) / 2 for name, found in costs.items()}
    alone = {
        name: sum(cost.loss_seconds or 0 for cost in found) / 2 for name, found in costs.items()
    }
    peak = {name: max(cost.peak for cost in found) for name, found in costs.items()}
    show(
        ("", "loss alone, s", "heads and loss, s", "memory above, MB"),
        [
            (name, f"{alone[name]:.2f}" if alone[name] else "", f"{whole[name]:.2f}",
             f"{peak[name] / 1e6:.0f}")
            for name in ways
        ],
    )  # fmt: skip
    print(f"the teacher's side of ALM, once for all epochs and students: {once:.2f} s")
    for name in list(ways)[:2]:
        print(
            f"ALM against {name}: loss alone {alone[name] / alone['ALM, dense']:.1f} times as fast "
            f"(bar {BAR:g}); in tiles {whole[name] / whole['ALM, in tiles']:.1f} times as fast "
            f"(bar 1) in {peak['ALM, in tiles'] / peak[name]:.2f} of the memory "
            f"(bar {MEMORY_BAR:g})"
        )


if __name__ == "__main__":
    main()
