"""The ALM loss of one pair of texts, beside the ULD loss of TRL's GOLD trainer.

    python benchmarks/chunk_loss.py

One text, which the student cuts into 256 tokens of a vocabulary of 128,256 and the teacher into 270
of 151,936; float32, one thread. The hidden states of both models are given: what the backbones cost
is the same for either loss. Timed are

    GOLD: both output layers, all logits; the loss on them; the gradients of the student's
          hidden states and output layer. Split strategies `observed` and `bayesian`.
    ALM:  the student's output layer in tiles, log p(B) included; chunk sums; the divergence; the
          same gradients. The teacher's side is read from disk: it is computed once for all epochs
          and students, and the time of that is shown beside it.

Of GOLD, "loss alone" is the loss and its gradients from logits that are there already. Each way is
taken twice, in the order GOLD, ALM, ALM, GOLD. Memory is the highest above what was there before.

Bar: 10 times as fast as GOLD, loss alone against all of ALM's.
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
from llm_distill.methods.alignment import align, chunk_ids
from llm_distill.methods.chunk_loss import chunk_divergence, chunk_sums

BAR = 10.0
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

    def step() -> float:
        leaf = student.hidden.requires_grad_(), student.weight.requires_grad_()
        logits = leaf[0] @ leaf[1].T
        with torch.no_grad():
            given = teacher.hidden @ teacher.weight.T
        start = time.perf_counter()
        detached = logits.detach().requires_grad_()
        loss = loss_of(
            detached[None],
            given[None],
            labels(student),
            labels(teacher),
            student.ids[None],
            teacher.ids[None],
            student_byte_offsets=offsets(student),
            teacher_byte_offsets=offsets(teacher),
        )
        (gradient,) = torch.autograd.grad(loss, detached)
        seconds = time.perf_counter() - start
        torch.autograd.grad(logits, leaf, gradient)
        return seconds

    return step


def alm(student: Side, teacher: Side) -> Callable[[], None]:
    chunks = align(student.ends, teacher.ends)
    n_chunks = len(chunks.last_a)
    chunk_of = torch.from_numpy(chunk_ids(chunks.last_a, len(student.ends)))
    last = torch.from_numpy(chunks.last_a) + 1  # behind the token before the text
    scored = -3 * torch.rand(n_chunks)

    def step() -> None:
        leaf = student.hidden.requires_grad_(), student.weight.requires_grad_()
        targets = torch.cat([student.ids[1:], student.ids[:1]])  # the last place has none
        logps, log_pbs = head_logps(leaf[0], Head(leaf[1]), targets, student.opens)
        assert log_pbs is not None
        sums = chunk_sums(logps[:-1], chunk_of, n_chunks) + log_pbs[last]
        loss = chunk_divergence(scored, sums, TEMPERATURE).mean()
        torch.autograd.grad(loss, leaf)

    return step


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
    ways: dict[str, Callable[[], Any]] = {
        "GOLD, observed": gold(student, teacher, "observed"),
        "GOLD, bayesian": gold(student, teacher, "bayesian"),
        "ALM": alm(student, teacher),
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
    header = ("", "heads and loss, s", "loss alone, s", "memory above, MB")
    lines, alone = [], {}
    for name, (one, other) in costs.items():
        loss = [cost.loss_seconds for cost in (one, other) if cost.loss_seconds is not None]
        alone[name] = sum(loss) / 2 if loss else None
        lines.append((
            name,
            f"{(one.seconds + other.seconds) / 2:.2f}",
            "" if alone[name] is None else f"{alone[name]:.2f}",
            f"{max(one.peak, other.peak) / 1e6:.0f}",
        ))  # fmt: skip
    show(header, lines)
    print(f"the teacher's scores, once for all epochs and students: {once:.2f} s")
    ours = sum(cost.seconds for cost in costs["ALM"]) / 2
    for name in list(ways)[:2]:
        whole = sum(cost.seconds for cost in costs[name]) / 2
        print(
            f"{name}: ALM is {whole / ours:.1f} times as fast as heads and loss, and all of it "
            f"{(alone[name] or 0) / ours:.1f} times as fast as the loss alone (bar {BAR:g}), with "
            f"{costs[name][0].peak / max(1, costs['ALM'][0].peak):.1f} times less memory"
        )


if __name__ == "__main__":
    main()
