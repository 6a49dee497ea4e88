"""How well does each signal's score foretell what training on a candidate then gives?

    llm-distill run pipelines/arte_tasks_signals.yaml --set seed=101
    python scripts/signal_value.py --seed 101

The truth is brute force: a copy of the student takes some steps on one candidate alone, and then
the exam's items of its task, without examples. Candidates are drawn by question, all of its
rationales. Prints for each signal, with bootstrap intervals over questions:

    | signal | Spearman | finds the better of two |
    | in_context_scores | 0.78 (0.70 to 0.84) | 75.7 (71.9 to 79.0) |

Spearman's correlation is over all candidates; the better of two is asked for any two rationales of
one question whose gains differ. The first row is the ceiling, what a perfect signal would reach
against gains on so few items: from the correlation r of the gains on two random halves of them,
√(2r / (1 + r)) (Spearman and Brown).
"""

from __future__ import annotations

import argparse
import copy
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from datasets import load_from_disk
from finished_runs import finished_runs
from scipy.stats import spearmanr
from train_tiny_models import ROOT
from word_problems import TASK_DESCRIPTION

from llm_distill.methods.answers import AnswerKind, AnswerPlace, extract_answer, judge
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.prompts import load_template
from llm_distill.training.encoder import PairEncoder, pair_encoder
from llm_distill.training.greedy import write_greedily

SIGNALS = (
    "in_context_scores",
    "by_student_loss",
    "by_rank_surprisal",
    "by_influence",
    "by_gradient_similarity",
)
Values = dict[str, list[tuple[float, float]]]
"""By question: (a score, a gain) of each of its rationales."""


@dataclass(frozen=True)
class Student:
    """A model, how it is asked, and how its answers are read."""

    model: Any
    encoder: PairEncoder
    template: str
    max_tokens: int
    kind: AnswerKind
    place: AnswerPlace

    def encoded(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        values = {"task_description": TASK_DESCRIPTION, "examples": [], "question": question}
        return self.encoder.encode(load_template(self.template).render(values), answer)

    def trained(self, row: dict[str, Any], steps: int, rate: float) -> Student:
        """A copy after `steps` of AdamW on one row."""
        model = copy.deepcopy(self.model).train()
        prompt, text = self.encoded(row["question"], row["rationale"])
        ids, labels = torch.tensor([prompt + text]), torch.tensor([[-100] * len(prompt) + text])
        optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
        for _ in range(steps):
            model(input_ids=ids, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        return replace(self, model=model.eval())

    def right(self, items: Sequence[dict[str, Any]]) -> np.ndarray:
        """1 or 0 for each item; greedy, all in one batch."""
        tokenizer, ends = self.encoder.tokenizer, self.encoder.ends
        prompts = [self.encoded(item["question"], "-")[0] for item in items]
        pad = tokenizer.pad_token_id
        all_written = write_greedily(self.model, prompts, ends, pad, self.max_tokens).ids
        found = []
        for written, item in zip(all_written, items, strict=True):
            end = next((place for place, token in enumerate(written) if token in ends), None)
            text = tokenizer.decode(written[:end], skip_special_tokens=True)
            answer = extract_answer(text, self.kind, end is not None, self.place)
            found.append(float(judge(answer, item["reference_answer"], self.kind) is True))
        return np.array(found)


def spearman(values: Sequence[Sequence[tuple[float, float]]]) -> float:
    scores, gains = zip(*(pair for pairs in values for pair in pairs), strict=True)
    return float(spearmanr(scores, gains).statistic)


def ceiling(halves: Sequence[Sequence[tuple[float, float]]]) -> float:
    """What the true gain's correlation with the measured one is, from two halves of the items."""
    r = max(spearman(halves), 0.0)
    return float(np.sqrt(2 * r / (1 + r)))


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
    parser.add_argument("--prompt-format", choices=("text", "chat"), default="text")
    parser.add_argument("--template", default="arte/exam.jinja")
    parser.add_argument("--max-tokens", type=int, default=72)
    parser.add_argument("--answer-kind", default="exact")
    parser.add_argument("--answer-in", default="tag")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--items", type=int, default=64, help="of each task")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    options = parser.parse_args()
    seed = options.seed
    artifacts = finished_runs(options.workspace, options.pipeline, None, [seed])[seed]
    scores: dict[str, dict[str, float]] = {
        name: {r["id"]: r["score"] for r in load_from_disk(str(artifacts[name]))}
        for name in SIGNALS
    }
    candidates: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in load_from_disk(str(artifacts["draft_rationales"])):
        if row["rationale"] and all(found.get(row["id"]) is not None for found in scores.values()):
            candidates[row["parent_id"]].append(row)
    chosen = Random(0).sample(sorted(candidates), options.questions)
    items: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in load_from_disk(str(artifacts["test"])):
        if len(items[item["task"]]) < options.items:
            items[item["task"]].append(item)
    source = ModelSource("student", str(options.student), prompt_format=options.prompt_format)
    student = Student(
        load_model(replace(source, dtype="float32")),
        pair_encoder(source, 1024),
        options.template,
        options.max_tokens,
        options.answer_kind,
        options.answer_in,
    )
    before = {task: student.right(asked) for task, asked in items.items()}
    random = np.random.default_rng(0)
    order = {task: np.split(random.permutation(len(asked)), 2) for task, asked in items.items()}
    truth: dict[str, Values] = {name: defaultdict(list) for name in ("ceiling", *SIGNALS)}
    rows = [row for question in chosen for row in candidates[question]]
    for done, row in enumerate(rows):
        after = student.trained(row, options.steps, options.learning_rate)
        task, question = row["task"], row["parent_id"]
        gains = after.right(items[task]) - before[task]
        halves = gains[order[task][0]].mean(), gains[order[task][1]].mean()
        truth["ceiling"][question].append(halves)
        for name in SIGNALS:
            truth[name][question].append((scores[name][row["id"]], gains.mean()))
        print(f"{done + 1}/{len(rows)} {row['strategy']} {task} {gains.mean():+.3f}", flush=True)
    print("\n| signal | Spearman | finds the better of two |\n| --- | --- | --- |")
    for name, values in truth.items():
        rho = interval(ceiling if name == "ceiling" else spearman, values, 1, ".2f")
        better = "" if name == "ceiling" else interval(better_of_two, values, 100, ".1f")
        print(f"| {name} | {rho} | {better} |")


if __name__ == "__main__":
    main()
