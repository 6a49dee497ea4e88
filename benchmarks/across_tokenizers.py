"""A step of each loss across tokenizers: seconds and memory at vocabularies of 128k and 152k.

    python benchmarks/across_tokenizers.py
    python benchmarks/across_tokenizers.py --tokens 256 270 --device cuda

Random Llamas of one layer, so that what is left is the output layers and the loss: a student with
128,256 tokens, a teacher with 151,936; 85 of 100 of the student's tokens are the teacher's too. One
text, which is cut into 128 and 135 tokens, of which 110 end together. Float32, one thread.
A step is all that the trainer does of a batch but the optimizer's own: the teacher's forward pass
where it is in memory, the student's, the loss, and the gradients of all weights. sft and alm read
the teacher's side from disk. GOLD is also taken as TRL computes it, from both models' whole logits.
Each way is taken twice, forwards and backwards through the table; memory is the highest above what
was there before, gradients included.

What the losses are worth: pipelines/alm_losses.yaml, docs/results/across-tokenizers.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hardware import describe
from memory import allocated_above, peak_above
from table import show
from transformers import LlamaConfig, LlamaForCausalLM

from llm_distill.distillation.alignment.aligned import AlignedRow
from llm_distill.distillation.alignment.chunks import TeacherChunks
from llm_distill.distillation.batches import Example
from llm_distill.distillation.dataset import chunk_columns
from llm_distill.distillation.lm_head.model_head import backbone_of, head_of
from llm_distill.distillation.losses.known import ACROSS_VOCABULARIES
from llm_distill.distillation.losses.objective import Objective
from llm_distill.distillation.settings import DistillSettings
from llm_distill.distillation.teacher.online import ALIGNMENT, OnlineBatches, OnlineTeacher
from llm_distill.distillation.teacher.signal import BatchesOfRows, BatchSignal
from llm_distill.methods.alignment import align
from llm_distill.methods.shared_tokens import Edges, Pairs, SharedTokens

BYTES_PER_TOKEN = 1100 / 256
SHARE_COMMON = 220 / 256
"""Of the student's tokens, how many end where one of the teacher's does."""
SHARE_SHARED = 0.85
"""Of the student's vocabulary, as of Llama 3's with Qwen's."""
BASE = "alm"


def text(options: argparse.Namespace) -> Example:
    """A row as the dataset holds it, with what is stored of the teacher and how it aligns."""
    rng = np.random.default_rng(0)
    n_bytes = round(BYTES_PER_TOKEN * options.tokens[0])
    places = rng.permutation(np.arange(1, n_bytes))
    common = min(round(SHARE_COMMON * options.tokens[0]), min(options.tokens) - 1)
    ends, used = [], common
    for n in options.tokens:
        own, used = places[used : used + n - 1 - common], used + n - 1 - common
        ends.append(np.sort(np.concatenate([places[:common], own, [n_bytes]])).astype(np.int64))
    student, teacher = ends
    chunks = align(teacher, student)
    # After the first token, which nothing predicts.
    lasts = chunks.last_a + 1, chunks.last_b + 1
    firsts = [np.concatenate([[0], last[:-1]]) + 1 for last in lasts]
    no_end = np.zeros(len(lasts[0]), np.bool_)
    aligned = AlignedRow(firsts[0], lasts[0], firsts[1], lasts[1], no_end, n_bytes, n_bytes)
    ids, other = (
        rng.integers(0, size, n + 1).astype(np.int32)
        for size, n in zip(options.vocabularies, options.tokens, strict=True)
    )
    scored = -rng.exponential(3.0, len(lasts[0])).astype(np.float32)
    stored = TeacherChunks(aligned, scored, ~no_end)
    return {
        "input_ids": ids,
        "labels": np.concatenate([[-100], ids[1:]]).astype(np.int32),
        "teacher_ids": other,
        "teacher_in_loss": np.arange(1, len(other)),
        **{name: getattr(aligned, name) for name in ALIGNMENT},
        "chunk_kinds": np.zeros(len(no_end), np.int64),
        **chunk_columns(stored, len(ids)),
    }


def random_llama(vocabulary: int, hidden: int) -> Any:
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=1,
        num_attention_heads=4,
    )
    return LlamaForCausalLM(config)


def shared_tokens(n_student: int, n_teacher: int) -> SharedTokens:
    """At random; a token without a partner is cut into three."""
    generator = torch.Generator().manual_seed(0)
    ours, theirs = (torch.randperm(n, generator=generator) for n in (n_student, n_teacher))
    common = round(SHARE_SHARED * n_student)
    alone = ours[common:].repeat_interleave(3)
    pieces = torch.randint(n_teacher, (len(alone),), generator=generator)
    weights = torch.tensor([1.0, 0.1, 0.01]).repeat(n_student - common) / 1.11
    edges = Edges(
        torch.cat([ours[:common], alone]),
        torch.cat([theirs[:common], pieces]),
        torch.cat([torch.ones(common), weights]),
    )
    return SharedTokens(Pairs(ours[:common], theirs[:common], n_student, n_teacher), edges)


def ours(
    settings: DistillSettings, row: Example, student: Any, signal: BatchSignal, is_boundary: Any
) -> Callable[[], torch.Tensor]:
    """A step of one of our losses; the loss as the trainer has it, but for its mean."""
    objective = Objective(settings, is_boundary if settings.debiases() else None, signal)
    head, device = head_of(student), student.device

    def loss() -> torch.Tensor:
        batch = {name: value.to(device) for name, value in signal.collate([row], 0).items()}
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        hidden = backbone_of(student)(**inputs, use_cache=False).last_hidden_state
        (value,) = objective.sums(hidden, head, batch).values()
        return value

    return loss


def trls(
    row: Example, student: Any, teacher: Any, shared: SharedTokens, *, is_hybrid: bool
) -> Callable[[], torch.Tensor]:
    """GOLD's loss as TRL has it, with `bayesian` merging."""
    from trl.experimental.gold.gold_trainer import ULDLoss

    config = SimpleNamespace(
        uld_crossentropy_weight=0.0,
        uld_distillation_weight=1.0,
        uld_student_temperature=1.0,
        uld_teacher_temperature=1.0,
        uld_skip_student_eos=False,  # there is no end token here
        uld_skip_teacher_eos=False,
        use_extended_uld=True,
        uld_token_merge_strategy="bayesian",
        uld_use_hybrid_loss=is_hybrid,
        beta=0.5,
    )
    same = shared.same
    pairs = zip(same.student.tolist(), same.teacher.tolist(), strict=True)
    names = {to: str(token) for token, to in pairs}
    vocabularies = (
        {str(token): token for token in range(same.n_student)},
        {names.get(token, f"t{token}"): token for token in range(same.n_teacher)},
    )
    sides = [SimpleNamespace(get_vocab=lambda of=of: of) for of in vocabularies]
    loss_of = ULDLoss(config, *sides, device=student.device)
    ids = [
        torch.from_numpy(row[name].astype(np.int64))[None] for name in ("input_ids", "teacher_ids")
    ]
    ids = [each.to(student.device) for each in ids]
    labels = [torch.cat([torch.full_like(each[:, :1], -100), each[:, 1:]], 1) for each in ids]
    offsets = [spread(row, "student", ids[0].shape[1]), spread(row, "teacher", ids[1].shape[1])]

    def loss() -> torch.Tensor:
        with torch.no_grad():
            given = teacher(input_ids=ids[1], use_cache=False).logits
        found = student(input_ids=ids[0], use_cache=False).logits
        value: torch.Tensor = loss_of(found, given, *labels, *ids, *offsets)
        return value

    return loss


def spread(row: Example, side: str, n_tokens: int) -> torch.Tensor:
    """Byte offsets with which tokens of the same chunks end together: a chunk is 1,000 bytes."""
    ends = np.zeros(n_tokens, np.int64)
    spans = zip(row[f"{side}_first"], row[f"{side}_last"], strict=True)
    for chunk, (first, last) in enumerate(spans):
        size = last - first + 1
        # The sides never meet inside of a chunk: the student's are even, the teacher's odd.
        inside = 2 * np.arange(1, size + 1) + (side == "teacher")
        ends[first : last + 1] = 1000 * chunk + inside
        ends[last] = 1000 * (chunk + 1)
    return torch.from_numpy(np.stack([np.zeros_like(ends), ends], 1))[None]


def ways(options: argparse.Namespace) -> tuple[Any, dict[str, Callable[[], torch.Tensor]]]:
    """The student, and what is measured, by name."""
    torch.manual_seed(0)
    student, teacher = (
        random_llama(size, options.hidden).to(options.device) for size in options.vocabularies
    )
    teacher.requires_grad_(False)
    row, shared = text(options), shared_tokens(*options.vocabularies).to(student.device)
    boundaries = [torch.rand(size) < 0.5 for size in options.vocabularies]
    boundaries = [each.to(student.device) for each in boundaries]
    scorer = OnlineTeacher(teacher, head_of(teacher), boundaries[1])

    def made(is_online: bool, losses: dict[str, float], **more: Any) -> Callable[[], torch.Tensor]:
        settings = DistillSettings(losses=losses, **more)
        online = OnlineBatches(scorer, settings, lambda kind: shared)
        return ours(settings, row, student, online if is_online else BatchesOfRows(), boundaries[0])

    biased = {"alm": {"debias": False}}
    found = {
        "sft": made(False, {"sft": 1.0}),
        BASE: made(False, {"alm": 1.0}),
        "alm, not debiased": made(False, {"alm": 1.0}, **biased),
        "alm, teacher in memory": made(True, {"alm": 1.0}),
    }
    found |= {loss.name: made(True, {loss.name: 1.0}) for loss in ACROSS_VOCABULARIES}
    for name, is_hybrid in (("uld, by TRL", False), ("gold, by TRL", True)):
        found[name] = trls(row, student, teacher, shared, is_hybrid=is_hybrid)
    return student, found


def measured(student: Any, loss: Callable[[], torch.Tensor], device: str) -> tuple[float, int]:
    student.zero_grad(set_to_none=True)

    def step() -> None:
        loss().backward()

    start = time.perf_counter()
    _, peak = peak_above(step) if device == "cpu" else allocated_above(step)
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, nargs=2, default=(128, 135))
    parser.add_argument("--vocabularies", type=int, nargs=2, default=(128_256, 151_936))
    parser.add_argument("--hidden", type=int, default=64, help="of both models")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    student, steps = ways(options)
    steps["sft"]().backward()  # what is made once is there
    costs: dict[str, list[tuple[float, int]]] = {name: [] for name in steps}
    for name in [*steps, *reversed(steps)]:
        costs[name].append(measured(student, steps[name], options.device))
    print(describe("torch", "transformers", "trl"))
    print(
        f"tokens {options.tokens}, vocabularies {options.vocabularies}, hidden size "
        f"{options.hidden}; means of two"
    )
    seconds = {name: sum(s for s, _ in found) / 2 for name, found in costs.items()}
    peak = {name: max(size for _, size in found) for name, found in costs.items()}
    show(
        ("", "s a step", f"of {BASE}'s", "peak MB", f"of {BASE}'s"),
        [
            (
                name,
                f"{seconds[name]:.2f}",
                f"{seconds[name] / seconds[BASE]:.1f}",
                f"{peak[name] / 1e6:,.0f}",
                f"{peak[name] / peak[BASE]:.1f}",
            )
            for name in steps
        ],
    )
    for name in ("uld", "gold"):
        theirs = f"{name}, by TRL"
        value, other = steps[name]().item(), steps[theirs]().item() * n_spans(options)
        print(
            f"{name}: {seconds[theirs] / seconds[name]:.1f} times as fast as TRL's, "
            f"{peak[name] / peak[theirs]:.2f} of its memory; they differ by "
            f"{abs(value - other) / abs(other):.0e}"
        )


def n_spans(options: argparse.Namespace) -> int:
    return len(text(options)["is_end"])


if __name__ == "__main__":
    main()
