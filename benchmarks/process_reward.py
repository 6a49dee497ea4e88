"""Rewards of an answer's steps from one pass, beside a pass for each step over all before it.

    python benchmarks/process_reward.py

The same model, answers and batch size, in one process. The model is SmolLM2-135M-Instruct from
data/models where it is there, otherwise a random Llama: its rewards mean nothing either way, but
both ways must give the same. Each way is taken twice, in the order one, steps, steps, one.

Bar: 4 times the answers a second.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hardware import describe
from table import show

from llm_distill.engines.process_reward.format import NextToken
from llm_distill.engines.process_reward.scoring import Answer, ProcessRewardModel
from llm_distill.models.sources import ModelSource

SMOLLM2 = Path("data/models/SmolLM2-135M-Instruct")
TOKENIZER = Path("data/models/tiny-teacher")
QUESTIONS = Path("data/word_problems/train.jsonl")
TOLERANCE = 1e-3
BAR = 4.0


@dataclass(frozen=True)
class Pass:
    """The rewards of each answer, and the seconds and CPU seconds that they took."""

    rewards: list[tuple[float, ...]]
    seconds: float
    cpu: float


def answers(n: int, n_steps: int) -> list[Answer]:
    """Questions of the bundled word problems, with steps of a dozen words each."""
    rng = random.Random(0)
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()
    made: list[Answer] = []
    for index in range(n):
        question = json.loads(lines[index % len(lines)])["question"]
        steps = []
        for number in range(1, n_steps + 1):
            a, b = rng.randrange(2, 90), rng.randrange(2, 90)
            extra = "and we keep it for later " * rng.randrange(3)
            steps.append(f"{number}. We add {a} and {b}, {extra}which gives {a} + {b} = {a + b}.")
        made.append((question, steps))
    return made


def random_llama(
    folder: str, hidden: int = 384, layers: int = 8, vocabulary: int | None = None
) -> ModelSource:
    """A small Llama with random weights and the bundled teacher's tokenizer.

    vocabulary: the tokenizer's own, unless the model pads it.
    """
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer: Any = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary or len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return ModelSource("random", folder)


def one_pass(model: ProcessRewardModel, given: list[Answer]) -> list[tuple[float, ...]]:
    return [found.steps for found in model.score(given)]


def step_by_step(model: ProcessRewardModel, given: list[Answer]) -> list[tuple[float, ...]]:
    """Each step from a pass of its own over the question and all steps up to it."""
    prefixes = [(question, steps[: k + 1]) for question, steps in given for k in range(len(steps))]
    last = iter([found.steps[-1] for found in model.score(prefixes)])
    return [tuple(next(last) for _ in steps) for _, steps in given]


def measure(way: Any, model: ProcessRewardModel, given: list[Answer]) -> Pass:
    start, cpu = time.perf_counter(), time.process_time()
    rewards = way(model, given)
    return Pass(rewards, time.perf_counter() - start, time.process_time() - cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--answers", type=int, default=256)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=16)
    options = parser.parse_args()
    given = answers(options.answers, options.steps)
    with TemporaryDirectory() as folder:
        is_there = SMOLLM2.is_dir()
        source = ModelSource("smollm2", str(SMOLLM2)) if is_there else random_llama(folder)
        model = ProcessRewardModel(source, NextToken(), options.batch_size)
        one_pass(model, given[: options.batch_size])  # warm
        ways = (one_pass, step_by_step, step_by_step, one_pass)
        passes = [measure(way, model, given) for way in ways]
        model.close()
    one, steps = (passes[0], passes[3]), (passes[1], passes[2])
    difference = max(
        abs(a - b)
        for found, wanted in zip(one[0].rewards, steps[0].rewards, strict=True)
        for a, b in zip(found, wanted, strict=True)
    )
    print(describe("torch", "transformers"))
    print(f"{source.name}: {options.answers} answers of {options.steps} steps, two passes a way")
    seconds = [sum(p.seconds for p in way) for way in (one, steps)]
    cpu = [sum(p.cpu for p in way) for way in (one, steps)]
    header = ("", "seconds", "CPU seconds", "answers/s")
    lines = [
        (name, f"{wall:.1f}", f"{used:.1f}", f"{2 * options.answers / wall:.2f}")
        for name, wall, used in zip(("one pass", "a pass a step"), seconds, cpu, strict=True)
    ]
    show(header, lines)
    print(
        f"{seconds[1] / seconds[0]:.2f} times as fast (bar {BAR}), {cpu[1] / cpu[0]:.2f} by CPU "
        f"time; rewards differ by at most {difference:.1e}"
    )
    if difference > TOLERANCE:
        raise SystemExit("the two ways give different rewards")


if __name__ == "__main__":
    main()
