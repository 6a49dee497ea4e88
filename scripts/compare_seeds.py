"""Compare students over runs with different seeds: mean accuracy and difference with intervals.

    for s in 1 2 3 4 5; do llm-distill run pipelines/arte_controls.yaml --set seed=$s; done
    python scripts/compare_seeds.py --baseline original_teacher

prints a row for each model, for each number of shots:

    | tailored_student | 57.8 (54.0 to 61.6) | +4.1 (+1.0 to +7.2) |
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llm_distill.manifest import read_manifest
from llm_distill.methods.statistics import mean_interval

Accuracies = dict[tuple[str, int], float]
"""Of a run: {(model, shots): accuracy}."""


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


def exam(artifact: Path, skills: Sequence[str] = ()) -> Accuracies:
    """Over all items, or over those with one of the `skills`."""
    found = metrics(artifact)
    if not skills:
        return {(r["model"], r["shots"]): r["accuracy"] for r in found["results"]}
    right: dict[tuple[str, int], float] = defaultdict(float)
    n: dict[tuple[str, int], int] = defaultdict(int)
    for row in found["by_skills"]:
        if row["skills"] in skills:
            key = row["model"], row["shots"]
            right[key] += row["accuracy"] * row["n"]
            n[key] += row["n"]
    return {key: right[key] / n[key] for key in right}


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
    options = parser.parse_args()
    runs = finished_runs(options.workspace, options.pipeline, options.profile)
    seeds = {
        seed: exam(artifacts[options.stage], options.skills)
        for seed, artifacts in runs.items()
        if options.stage in artifacts and (not options.seeds or seed in options.seeds)
    }
    if len(seeds) < 2:
        raise SystemExit(
            f"{len(seeds)} seeds of '{options.pipeline}' in {options.workspace}; run more"
        )
    values: dict[tuple[str, int], list[float]] = defaultdict(list)
    for accuracies in seeds.values():
        for key, accuracy in accuracies.items():
            values[key].append(100 * accuracy)
    print(f"seeds: {list(seeds)}")
    for shots in sorted({shots for _, shots in values}):
        print(f"\n{shots}-shot\n")
        print(f"| model | accuracy | against {options.baseline} |")
        print("| --- | --- | --- |")
        base = values[(options.baseline, shots)]
        for (model, its_shots), own in values.items():
            if its_shots == shots:
                print(f"| {model} | {_spell(own)} | {_difference(own, base)} |")


def _spell(values: Sequence[float], sign: str = "") -> str:
    if len(set(values)) == 1:
        return f"{values[0]:{sign}.1f}"
    estimate = mean_interval(values)
    low, high = f"{estimate.low:{sign}.1f}", f"{estimate.high:{sign}.1f}"
    return f"{estimate.value:{sign}.1f} ({low} to {high})"


def _difference(values: Sequence[float], base: Sequence[float]) -> str:
    return _spell([value - other for value, other in zip(values, base, strict=True)], "+")


if __name__ == "__main__":
    main()
