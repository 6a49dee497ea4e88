"""Log-probabilities from hidden states on a GPU: tiles in Triton, tiles in torch, dense logits.

    python benchmarks/output_layer.py

The output layer of --hidden inputs in bfloat16, forwards and backwards, with gradients of hidden
states and weights; with log p(boundary) and without. Dense is what a trainer does: all logits, as
float32, and cross entropy; with log p(boundary) log-probabilities of all tokens and a logsumexp
over boundary tokens.
The floor is the matrix products at a rate that is measured in the same run: four in tiles, where
the backward pass recomputes logits, and three with dense logits. Memory is what is allocated
above the inputs.

Then errors, ‖found − wanted‖ / ‖wanted‖, against float64 on the same inputs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from unittest.mock import patch

import torch
from gpu_times import milliseconds, multiplied_a_second
from hardware import describe
from memory import allocated_above
from table import show
from torch.nn.functional import cross_entropy

from llm_distill.distillation.lm_head import head as head_module
from llm_distill.distillation.lm_head import tiles, triton_kernels
from llm_distill.distillation.lm_head.head import Head, head_logps

SOFT_CAP = 30.0
N_CHECKED = 512
"""Positions whose dense logits in float64 are there at once."""

Found = list[torch.Tensor]
"""log p(token), log p(boundary) where asked for, gradients of hidden states and of weights."""


@dataclass(frozen=True)
class Case:
    """boundary_tokens: None without log p(boundary).

    counts: of each position, its log-probability in the loss.
    """

    hidden: torch.Tensor
    head: Head
    targets: torch.Tensor
    boundary_tokens: torch.Tensor | None
    counts: torch.Tensor

    def found(self, logps: torch.Tensor, boundary_logps: torch.Tensor | None) -> Found:
        loss = (logps * self.counts).sum()
        values = [logps]
        if boundary_logps is not None:
            loss = loss + (boundary_logps * (1 - self.counts)).sum()
            values.append(boundary_logps)
        gradients = torch.autograd.grad(loss, [self.hidden, self.head.weight])
        return [*(value.detach() for value in values), *gradients]


def case(
    n: int,
    width: int,
    vocabulary: int,
    dtype: torch.dtype,
    soft_cap: float | None,
    has_boundaries: bool,
) -> Case:
    with torch.device("cuda"):
        weight = (2 * torch.randn(vocabulary, width) / width**0.5).to(dtype)
        return Case(
            torch.randn(n, width).to(dtype).requires_grad_(),
            Head(weight.requires_grad_(), None, 1.0, soft_cap),
            torch.randint(vocabulary, (n,)),
            torch.rand(vocabulary) < 0.5 if has_boundaries else None,
            torch.rand(n),
        )


def in_tiles(way: ModuleType, given: Case) -> Found:
    operations = way.accumulate, way.backward
    with patch.object(head_module, "tile_operations", lambda *_: operations):
        return given.found(
            *head_logps(given.hidden, given.head, given.targets, given.boundary_tokens)
        )


def dense(given: Case) -> Found:
    logits = given.head.logits(given.hidden)
    if given.boundary_tokens is None:
        return given.found(-cross_entropy(logits, given.targets, reduction="none"), None)
    logps = logits.log_softmax(-1)
    boundary_logps = logps.masked_fill(~given.boundary_tokens, -torch.inf).logsumexp(-1)
    return given.found(logps.gather(1, given.targets[:, None])[:, 0], boundary_logps)


def in_float64(given: Case) -> Found:
    """Dense, some positions at a time."""
    weight = given.head.weight.detach().double().requires_grad_()
    head = Head(weight, None, 1.0, given.head.soft_cap)
    d_weight = torch.zeros_like(weight)
    parts = []
    for start in range(0, len(given.hidden), N_CHECKED):
        rows = slice(start, start + N_CHECKED)
        hidden = given.hidden[rows].detach().double().requires_grad_()
        part = Case(
            hidden, head, given.targets[rows], given.boundary_tokens, given.counts[rows].double()
        )
        *values, own = dense(part)
        parts.append(values)
        d_weight += own
    return [*(torch.cat(columns) for columns in zip(*parts, strict=True)), d_weight]


def cost(way: Callable[[Case], Found], given: Case) -> tuple[str, str]:
    """Milliseconds and MB."""
    try:
        way(given)  # kernels are compiled
        _, peak = allocated_above(lambda: way(given))
        return f"{milliseconds(lambda: way(given)):.1f}", f"{peak / 1e6:,.0f}"
    except torch.OutOfMemoryError:
        return "too large", ""


def costs(options: argparse.Namespace, vocabulary: int, n: int, has_boundaries: bool) -> list[str]:
    given = case(n, options.hidden, vocabulary, torch.bfloat16, None, has_boundaries)
    ways: tuple[Callable[[Case], Found], ...] = (
        lambda given: in_tiles(triton_kernels, given),
        lambda given: in_tiles(tiles, given),
        dense,
    )
    times, memory = zip(*(cost(way, given) for way in ways), strict=True)
    torch.cuda.empty_cache()
    return [*times, *memory]


def errors(
    options: argparse.Namespace, vocabulary: int, dtype: torch.dtype, cap: float | None
) -> list[list[str]]:
    """Triton's and torch's; a case with a cap is without log p(boundary)."""
    n = max(options.positions)
    given = case(n, options.hidden, vocabulary, dtype, cap, cap is None)
    wanted = in_float64(given)
    lines = []
    for way in (triton_kernels, tiles):
        pairs = zip(in_tiles(way, given), wanted, strict=True)
        line = [f"{float((one - right).norm() / right.norm()):.1e}" for one, right in pairs]
        lines.append(line if cap is None else [line[0], "", *line[1:]])
    torch.cuda.empty_cache()
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hidden", type=int, default=2048)
    sizes = [32_000, 128_256, 151_936, 262_144]
    parser.add_argument("--vocabularies", type=int, nargs="+", default=sizes)
    parser.add_argument("--positions", type=int, nargs="+", default=[512, 2048, 8192])
    options = parser.parse_args()
    torch.manual_seed(0)
    rate = multiplied_a_second()
    print(describe("torch", "triton"))
    print(f"a product in bfloat16: {rate / 1e12:.0f} TFLOP/s")
    print(f"\n{options.hidden} inputs, bfloat16: milliseconds, and MB above the inputs")
    header = "vocabulary, positions", "floor", "of dense", *("Triton", "torch", "dense") * 2
    lines = []
    for vocabulary in options.vocabularies:
        for n in options.positions:
            product = 2 * n * options.hidden * vocabulary / rate * 1e3
            floors = [f"{k * product:.1f}" for k in (4, 3)]
            for has_boundaries in (False, True):
                what = f"{vocabulary:,}, {n:,}" + ", B" * has_boundaries
                lines.append((what, *floors, *costs(options, vocabulary, n, has_boundaries)))
    show(header, lines)
    print(f"\nerrors against float64, {max(options.positions):,} positions")
    lines = []
    for vocabulary in options.vocabularies:
        for dtype, name in ((torch.float32, "float32"), (torch.bfloat16, "bfloat16")):
            for cap in (None, SOFT_CAP):
                of_case = f"{vocabulary:,}, {name}, " + ("B" if cap is None else "cap")
                found = errors(options, vocabulary, dtype, cap)
                for way, line in zip(("Triton", "torch"), found, strict=True):
                    lines.append((f"{of_case}: {way}", *line))
    show(("", "log p(token)", "log p(boundary)", "hidden states'", "weights'"), lines)


if __name__ == "__main__":
    main()
