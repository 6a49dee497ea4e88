"""Compare students over runs with different seeds: mean accuracy and difference with intervals.

    for s in 1 2 3 4 5; do llm-distill run pipelines/arte_controls.yaml --set seed=$s; done
    python scripts/compare_seeds.py --baseline original_teacher

prints a row for each model, for each number of shots:

    | tailored_student | 57.8 (54.0 to 61.6) | +4.1 (+1.0 to +7.2) |

The intervals are over seeds and items: both are drawn.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import load_from_disk

from llm_distill.manifest import read_manifest
from llm_distill.methods.statistics import crossed_bootstrap

Exam = dict[tuple[str, int], dict[str, float]]
"""Of a run: {(model, shots): {item: 1 or 0, or the share of several answers that are right}}."""


def finished_runs(
    workspace: Path, pipeline: str, profile: str | None
) -> dict[int, dict[str, Path]]:
    """{seed: {stage: its artifact}} of each seed's newest finished run.

    Runs with another `--set` count as well: use a workspace without them.
    """
    found: dict[int, dict[str, Path]] = {}
    for path in sorted(workspace.glob(f"runs/{pipeline}/*/run.json")):
        run = json.loads(path.read_text())
        if run["state"] == "done" and run["profile"] == profile:
            stages = run["stages"].items()
            found[run["seed"]] = {
                name: workspace / "artifacts" / stage["artifact"] for name, stage in stages
            }
    return dict(sorted(found.items()))


def metrics(artifact: Path) -> dict[str, Any]:
    """The metrics in an artifact's manifest."""
    manifest = read_manifest(artifact)
    assert manifest is not None, f"{artifact} has no manifest"
    return manifest.metrics


def exam(artifact: Path, skills: Sequence[str] = (), task: str | None = None) -> Exam:
    """Over all items, or over those with one of the `skills`, or of the `task`."""
    answers: dict[tuple[str, int], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    rows = load_from_disk(str(artifact))
    columns = ["parent_id", "model", "shots", "is_correct"]
    kept = columns + [name for name in ("skills", "task") if name in rows.column_names]
    for row in rows.select_columns(kept):
        if (not skills or set(skills) & set(row["skills"])) and task in (None, row.get("task")):
            right = answers[row["model"], row["shots"]]
            right[row["parent_id"]].append(float(bool(row["is_correct"])))
    return {
        key: {item: sum(right) / len(right) for item, right in items.items()}
        for key, items in answers.items()
    }


def table(exams: Mapping[int, Exam], key: tuple[str, int]) -> np.ndarray:
    """[n_seeds, n_items] in percent; the items are those of the first seed."""
    items = list(next(iter(exams.values()))[key])
    return 100 * np.array([[found[key][item] for item in items] for found in exams.values()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    parser.add_argument("--pipeline", default="arte_controls")
    parser.add_argument("--profile")
    parser.add_argument("--stage", default="controls")
    parser.add_argument("--baseline", default="original_teacher")
    parser.add_argument("--seeds", type=int, nargs="*", help="only these; all by default")
    parser.add_argument("--skills", nargs="*", default=(), help="items of these skills only")
    parser.add_argument("--task", help="items of this task only")
    options = parser.parse_args()
    runs = finished_runs(options.workspace, options.pipeline, options.profile)
    exams = {
        seed: exam(artifacts[options.stage], options.skills, options.task)
        for seed, artifacts in runs.items()
        if options.stage in artifacts and (not options.seeds or seed in options.seeds)
    }
    if len(exams) < 2:
        raise SystemExit(
            f"{len(exams)} seeds of '{options.pipeline}' in {options.workspace}; run more"
        )
    first = next(iter(exams.values()))
    print(f"seeds: {list(exams)}")
    for shots in sorted({shots for _, shots in first}):
        print(f"\n{shots}-shot, {len(first[options.baseline, shots])} items\n")
        print(f"| model | accuracy | against {options.baseline} |")
        print("| --- | --- | --- |")
        base = table(exams, (options.baseline, shots))
        for model, its_shots in first:
            if its_shots == shots:
                own = table(exams, (model, shots))
                print(f"| {model} | {_spell(own)} | {_spell(own - base, '+')} |")


def _spell(values: np.ndarray, sign: str = "") -> str:
    estimate = crossed_bootstrap(values.tolist())
    low, high = f"{estimate.low:{sign}.1f}", f"{estimate.high:{sign}.1f}"
    return f"{estimate.value:{sign}.1f} ({low} to {high})"


if __name__ == "__main__":
    main()
