"""How many tokens a teacher read and wrote for each student of an exam, all rounds together.

    python scripts/teacher_tokens.py pipelines/active_controls.yaml --exam controls

Counted over the stages that a student's training goes back to, as if the student were alone: a
request counts whether another student's stages had sent it before or not, and once if temperature 0
repeats it in a later round. Its tokens are the mean of those that were sent; nan where the store
had all answers of a stage, so that none was. A judge of the exam is not counted. "scored": tokens
of given texts whose likelihoods it computed in memory.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import fmean
from typing import Any

import llm_distill as ld
from llm_distill.stage import Stage, references


def upstream(name: str, stages: dict[str, Stage]) -> list[str]:
    """The stages that `name` goes back to, itself among them; of models and of rows."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        stage = waiting.pop()
        if stage in stages and stage not in found:
            found[stage] = None
            waiting += [reference for _, reference, _ in references(stages[stage])]
    return list(found)


def asks(stage: Stage, teacher: str) -> bool:
    named = ((place, name) for place, name, kind in references(stage) if kind == "model")
    return any(name == teacher and stage.asks(place) for place, name in named)


def tokens_of(run: Any, stages: dict[str, Stage], names: list[str]) -> dict[str, tuple[int, float]]:
    """By a stage's name without its round: requests, and tokens read and written.

    names: of stages that ask the teacher.
    """
    by_base: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_base[name.partition("@")[0]].append(name)
    found = {}
    for base, rounds in by_base.items():
        manifests = [run[name].manifest for name in rounds]
        made = sum(each.completions.get("made", 0) for each in manifests)
        tokens = sum(each.tokens_in + each.tokens_out for each in manifests)
        requests = sum(sum(each.completions.values()) for each in manifests)
        stage: Any = stages[rounds[0]]
        if stage.stage == "generate" and stage.sampling.temperature == 0:
            ids = {i for name in rounds for i in run[stages[name].rows].dataset["id"]}  # type: ignore[attr-defined]
            requests = len(ids) * stage.n
        found[base] = requests, requests * tokens / made if made else float("nan")
    return found


def scored_in(run: Any, stages: dict[str, Stage], names: list[str], teacher: str) -> int:
    """Tokens of texts that the teacher scored in memory, where no engine counts any."""

    def reads(stage: Any) -> bool:
        models = (of for _, of, kind in references(stage) if kind == "model")
        is_in_memory = stage.stage == "score_likelihood" and not asks(stage, teacher)
        return is_in_memory and teacher in models

    return sum(run[name].manifest.metrics["n_tokens"] for name in names if reads(stages[name]))


def main() -> None:
    parser = argparse.ArgumentParser(description="Count a teacher's tokens for each student.")
    parser.add_argument("file", help="the pipeline file")
    parser.add_argument("--run", nargs="*", default=[None], help="runs; the newest unless given")
    parser.add_argument("--exam", default="exam", help="the `evaluate` whose models are students")
    parser.add_argument("--teacher", default="teacher")
    parser.add_argument("--workspace")
    parser.add_argument("--profile")
    args = parser.parse_args()
    pipeline = ld.load(args.file, profile=args.profile)
    stages = dict(pipeline.stages)
    runs = [ld.load_run(n or pipeline.name, workspace=args.workspace) for n in args.run]
    for student in stages[args.exam].models:  # type: ignore[attr-defined]
        names = [name for name in upstream(student, stages) if name in stages]
        asking = [name for name in names if asks(stages[name], args.teacher)]
        each = [tokens_of(run, stages, asking) for run in runs]
        total = fmean(sum(tokens for _, tokens in found.values()) for found in each)
        parts = ", ".join(
            f"{base} {fmean(f[base][0] for f in each):.0f} × "
            f"{fmean(f[base][1] / max(1, f[base][0]) for f in each):.0f}"
            for base in each[0]
        )
        scored = fmean(scored_in(run, stages, names, args.teacher) for run in runs)
        print(f"{student:20} {total:8.0f}  {parts}" + (f"; scored {scored:.0f}" if scored else ""))


if __name__ == "__main__":
    main()
