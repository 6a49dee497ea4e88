"""The transformers engine beside `model.generate` with the same model and prompts.

    python benchmarks/generation.py

As in ARTE's scoring: one worked example in the prompt, greedy, the exam's stop string, in batches
of one size on one thread. Prints tokens a CPU second of both, their ratio, and how many answers are
the same. Not compared, as generate has no such thing: an own seed a request.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import torch
from hardware import describe

from llm_distill.engines.base import Request, SamplingSettings
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from llm_distill.prompts import load_template

STUDENT = ModelSource("student", "data/models/tiny-student", prompt_format="text")
TEST = Path("data/word_problems/test.jsonl")
CONSTANTS = {"task_description": "Solve the word problem."}
BATCH, MAX_TOKENS, REPEATS = 64, 72, 3
STOP = "\nQuestion:"

Answers = tuple[list[str], int]
"""Texts, and tokens written."""


def prompts() -> list[str]:
    template = load_template("arte/exam.jinja")
    rows = [json.loads(line) for line in TEST.read_text(encoding="utf-8").splitlines()]
    examples = [
        {**row, "rationale": f"{clause}<ans>{row['reference_answer']}</ans>"}
        for row, clause in zip(rows, cycle(["", "This is clear when you think of it. "]))
    ]
    return [
        template.render({**CONSTANTS, **row, "examples": [examples[index - shift]]})
        for shift in (1, 2, 3)
        for index, row in enumerate(rows)
    ][: 9 * BATCH]


def engine() -> Callable[[list[str]], Answers]:
    made = TransformersEngine(STUDENT, TransformersSettings(batch_size=BATCH, device="cpu"))
    sampling = SamplingSettings(temperature=0, max_tokens=MAX_TOKENS, stop=(STOP,))

    def answer(texts: list[str]) -> Answers:
        requests = (Request(str(i), text, sampling) for i, text in enumerate(texts))
        found = {int(c.id): c for c in made.generate(requests)}
        ordered = [found[i] for i in range(len(texts))]
        return [c.text.strip() for c in ordered], sum(c.n_completion_tokens for c in ordered)

    return answer


def generate() -> Callable[[list[str]], Answers]:
    tokenizer, model = load_tokenizer(STUDENT), load_model(STUDENT)
    ends = {model.generation_config.eos_token_id, tokenizer.eos_token_id}

    def answer(texts: list[str]) -> Answers:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        answers, written = [""] * len(texts), 0
        for start in range(0, len(order), BATCH):
            indices = order[start : start + BATCH]
            batch = tokenizer([texts[i] for i in indices], return_tensors="pt", padding=True)
            batch.pop("token_type_ids", None)
            out = model.generate(
                **batch,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                stop_strings=[STOP],
                tokenizer=tokenizer,
            )
            for i, row in zip(indices, out[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
                length = next((n + 1 for n, token in enumerate(row) if token in ends), len(row))
                text = tokenizer.decode(row[:length], skip_special_tokens=True)
                answers[i] = text.partition(STOP)[0].strip()
                written += length
        return answers, written

    return answer


def rate(answer: Callable[[list[str]], Answers], texts: list[str]) -> tuple[float, list[str]]:
    """Tokens a CPU second at best, and the answers."""
    best, answers = 0.0, [""]
    with torch.inference_mode():
        for _ in range(REPEATS):
            start = time.process_time()
            answers, written = answer(texts)
            best = max(best, written / (time.process_time() - start))
    return best, answers


def main() -> None:
    torch.set_num_threads(1)
    texts = prompts()
    ours, our_answers = rate(engine(), texts)
    theirs, their_answers = rate(generate(), texts)
    same = sum(a == b for a, b in zip(our_answers, their_answers, strict=True))
    print(describe("torch", "transformers", "trl"))
    print(f"engine          {ours:7,.0f} tokens a CPU second (best of {REPEATS})")
    print(f"model.generate  {theirs:7,.0f} tokens a CPU second (best of {REPEATS})")
    print(f"ratio           {ours / theirs:7.2f}; {same} of {len(texts)} answers are the same")


if __name__ == "__main__":
    main()
