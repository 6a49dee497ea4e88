"""What each alignment has made of the teacher, by task: the styles in which it explains.

    python scripts/task_styles.py --workspace data

Over all finished runs of arte_tasks_signals.yaml, means over seeds: the share of each style among
the texts that a teacher wrote to the same drafts under the naive prompt, before and after each
alignment; and the share of the style that was planted to help, with an interval over seeds.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

from datasets import load_from_disk
from finished_runs import finished_runs
from word_problems import STYLES, style_of
from word_tasks import HELPS

TEACHERS = {
    "before": "naive_texts",
    "ARTE, all pairs": "rationale_only_texts",
    "in-context, rationales": "in_context_checked",
    "student's loss": "loss_checked",
    "influence": "influence_checked",
    "gradients": "gradients_checked",
    "rank and surprisal": "surprisal_checked",
}
PIPELINE = "arte_tasks_signals"


def shares(artifact: Path) -> dict[str, dict[str, float]]:
    """By task, the share of each style."""
    rows = load_from_disk(str(artifact))
    text = "completion" if "completion" in rows.column_names else "rationale"
    found: dict[str, list[str | None]] = defaultdict(list)
    for task, written in zip(rows["task"], rows[text], strict=True):
        found[task].append(style_of(written))
    return {
        task: {style: styles.count(style) / len(styles) for style in STYLES}
        for task, styles in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    options = parser.parse_args()
    runs = finished_runs(options.workspace, PIPELINE, None)
    print(f"{len(runs)} seeds: {', '.join(map(str, runs))}\n")
    of = {
        name: [shares(artifacts[stage]) for artifacts in runs.values()]
        for name, stage in TEACHERS.items()
    }
    for task, helps in HELPS.items():
        print(f"\n{task}: {helps} helps\n\n| teacher | {' | '.join(STYLES)} |")
        print(f"| --- |{' --- |' * len(STYLES)}")
        for name, found in of.items():
            cells = [f"{100 * mean(each[task][style] for each in found):.0f}" for style in STYLES]
            print(f"| {name} | {' | '.join(cells)} |")
    print("\nthe style that helps, over all tasks\n\n| teacher | share |\n| --- | --- |")
    for name, found in of.items():
        by_seed = [100 * mean(each[task][style] for task, style in HELPS.items()) for each in found]
        half = 1.96 * stdev(by_seed) / len(by_seed) ** 0.5 if len(by_seed) > 1 else float("nan")
        print(f"| {name} | {mean(by_seed):.1f} ± {half:.1f} |")


if __name__ == "__main__":
    main()
