"""Which signal foretells what a student gains from a style of explanation, on a real pair?

    llm-distill run pipelines/signals_small.yaml
    python scripts/style_signals.py --workspace data

Prints what each style gave (accuracy after training on it, less accuracy before) and, for each
signal, the styles' mean scores, its seconds, and Spearman's correlation of mean score and gain over
the styles. Its interval is from drawing the exam's questions and the candidates of each style anew;
it says nothing about other styles, of which there are few.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from datasets import load_from_disk
from finished_runs import finished_runs
from scipy.stats import spearmanr
from signal_value import SIGNALS

DRAWS = 2000


def exam_of(artifact: Path) -> dict[str, np.ndarray]:
    """By model whether each question of the exam was answered right, in one order."""
    right: dict[str, dict[str, float]] = defaultdict(dict)
    for row in load_from_disk(str(artifact)):
        right[row["model"]][row["parent_id"]] = float(row["is_correct"])
    items = sorted(next(iter(right.values())))
    return {model: np.array([found[item] for item in items]) for model, found in right.items()}


def scores_of(artifact: Path, styles: list[str]) -> list[np.ndarray]:
    """The scores of each style's candidates, without those that have none."""
    found: dict[str, list[float]] = defaultdict(list)
    for row in load_from_disk(str(artifact)):
        if row["score"] is not None:
            found[row["source"].rpartition("_")[0]].append(row["score"])
    return [np.array(found[style]) for style in styles]


def spearman(scores: list[float], gains: list[float]) -> float:
    return float(spearmanr(scores, gains).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    runs = finished_runs(options.workspace, "signals_small", None, [options.seed])
    artifacts = runs[options.seed]
    exam = exam_of(artifacts["exam"])
    before = exam["student"]
    styles = [name.removeprefix("from_") for name in exam if name != "student"]
    gains = [exam[f"from_{style}"] - before for style in styles]
    print(f"before: {100 * before.mean():.1f} %\n\n| trained on | gain |\n| --- | --- |")
    for style, gain in zip(styles, gains, strict=True):
        print(f"| {style} | {100 * gain.mean():+.1f} |")
    print(f"\n| signal | seconds | {' | '.join(styles)} | Spearman with the gain |")
    print(f"| --- | --- |{' --- |' * len(styles)} --- |")
    random = np.random.default_rng(0)
    for name in SIGNALS:
        scores = scores_of(artifacts[name], styles)
        drawn = []
        for _ in range(DRAWS):
            items = random.integers(0, len(before), len(before))
            means = [random.choice(values, len(values)).mean() for values in scores]
            drawn.append(spearman(means, [gain[items].mean() for gain in gains]))
        low, high = np.nanquantile(drawn, (0.025, 0.975))
        found = spearman([v.mean() for v in scores], [gain.mean() for gain in gains])
        manifest = json.loads((artifacts[name] / "manifest.json").read_text(encoding="utf-8"))
        cells = " | ".join(f"{values.mean():.3g}" for values in scores)
        seconds = f"{manifest['seconds']:.0f}"
        print(f"| {name} | {seconds} | {cells} | {found:.2f} ({low:.2f} to {high:.2f}) |")


if __name__ == "__main__":
    main()
