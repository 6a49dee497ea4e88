"""How well does each signal's score foretell what training on a candidate then gives?

    llm-distill run pipelines/arte_tasks_signals.yaml --set seed=101
    python scripts/signal_value.py --seed 101

The truth is brute force: a copy of the student takes some steps on one candidate alone, and then
the exam's items of its task, without examples. Candidates are drawn by question, all of its
rationales. Prints for each signal, with bootstrap intervals over questions:

    | signal | Spearman | finds the better of two |
    | in_context_scores | 0.81 (0.75 to 0.86) | 92.1 % (88.0 to 95.6) |

Spearman's correlation is over all candidates; the better of two is asked for any two rationales of
one question whose gains differ. The first row is the ceiling: the gain on one half of the items
against the gain on the other half.
"""

from __future__ import annotations

import argparse
import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from ask_tiny_model import answer_of, complete, load
from compare_seeds import finished_runs
from datasets import load_from_disk
from scipy.stats import spearmanr
from train_tiny_models import ROOT, template
from word_problems import TASK_DESCRIPTION

SIGNALS = (
    "in_context_scores",
    "by_student_loss",
    "by_rank_surprisal",
    "by_influence",
    "by_gradient_similarity",
)
Values = dict[str, list[tuple[float, float]]]
"""By question: (a score, a gain) of each of its rationales."""


def exam_prompt(question: str) -> str:
    values = {"task_description": TASK_DESCRIPTION, "examples": [], "question": question}
    return template("arte/exam.jinja").render(values)


def trained(loaded: tuple[Any, Any], row: dict[str, Any], steps: int, rate: float) -> Any:
    """A copy of the model after `steps` of AdamW on one row."""
    model, tokenizer = copy.deepcopy(loaded[0]).train(), loaded[1]
    prompt = tokenizer(exam_prompt(row["question"]))["input_ids"]
    text = tokenizer(f" {row['rationale'].strip()}")["input_ids"] + [tokenizer.eos_token_id]
    ids, labels = torch.tensor([prompt + text]), torch.tensor([[-100] * len(prompt) + text])
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    for _ in range(steps):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


def right(loaded: tuple[Any, Any], items: Sequence[dict[str, Any]]) -> np.ndarray:
    texts = complete(loaded, [exam_prompt(item["question"]) for item in items], False)
    pairs = zip(texts, items, strict=True)
    return np.array([answer_of(text) == item["reference_answer"] for text, item in pairs], float)


def spearman(values: Sequence[Sequence[tuple[float, float]]]) -> float:
    scores, gains = zip(*(pair for pairs in values for pair in pairs), strict=True)
    return float(spearmanr(scores, gains).statistic)


def better_of_two(values: Sequence[Sequence[tuple[float, float]]]) -> float:
    """The share of pairs of one question in which the higher score has the higher gain."""
    found = [
        0.5 if a[0] == b[0] else float((a[0] > b[0]) == (a[1] > b[1]))
        for pairs in values
        for a, b in combinations(pairs, 2)
        if a[1] != b[1]
    ]
    return sum(found) / len(found)


def interval(of: Callable[..., float], values: Values, scale: float, form: str) -> str:
    """With a percentile bootstrap over questions."""
    groups = list(values.values())
    random = np.random.default_rng(0)
    drawn = [
        of([groups[i] for i in random.integers(0, len(groups), len(groups))]) for _ in range(1000)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975)) * scale
    return f"{of(groups) * scale:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    parser.add_argument("--pipeline", default="arte_tasks_signals")
    parser.add_argument("--student", type=Path, default=ROOT / "data/models/tiny-task-student")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--items", type=int, default=64, help="of each task")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    options = parser.parse_args()
    artifacts = finished_runs(options.workspace, options.pipeline, None)[options.seed]
    scores: dict[str, dict[str, float]] = {
        name: {r["id"]: r["score"] for r in load_from_disk(str(artifacts[name]))}
        for name in SIGNALS
    }
    candidates: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in load_from_disk(str(artifacts["draft_rationales"])):
        if row["rationale"] and all(found[row["id"]] is not None for found in scores.values()):
            candidates[row["parent_id"]].append(row)
    chosen = Random(0).sample(sorted(candidates), options.questions)
    items: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in load_from_disk(str(artifacts["test"])):
        if len(items[item["task"]]) < options.items:
            items[item["task"]].append(item)
    loaded = load(options.student)
    before = {task: right(loaded, asked) for task, asked in items.items()}
    truth: dict[str, Values] = {name: defaultdict(list) for name in ("ceiling", *SIGNALS)}
    rows = [row for question in chosen for row in candidates[question]]
    for done, row in enumerate(rows):
        model = trained(loaded, row, options.steps, options.learning_rate)
        task, question = row["task"], row["parent_id"]
        gains = right((model, loaded[1]), items[task]) - before[task]
        truth["ceiling"][question].append((gains[::2].mean(), gains[1::2].mean()))
        for name in SIGNALS:
            truth[name][question].append((scores[name][row["id"]], gains.mean()))
        print(f"{done + 1}/{len(rows)} {row['strategy']} {task} {gains.mean():+.3f}", flush=True)
    print("\n| signal | Spearman | finds the better of two |\n| --- | --- | --- |")
    for name, values in truth.items():
        rho = interval(spearman, values, 1, ".2f")
        found = interval(better_of_two, values, 100, ".1f")
        print(f"| {name} | {rho} | {found} |")


if __name__ == "__main__":
    main()
