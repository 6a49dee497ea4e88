"""Does the Missing-Skill-Profile show what was planted? Precision and recall over validation draws.

    python scripts/stat_profiles.py
    python scripts/stat_profiles.py --student data/models/other-student \
        --missing-skills multiplication order

Each seed draws other validation questions and runs pipelines/stat_profile.yaml up to the profile.
The top of the profile, as many skills as were planted, is compared with these; a row per seed:

    | 1 | subtraction 15, weekday 15, division 1 | 100 % | 100 % | 97 % |

The last column is the planted skills' share of the profile's whole weight.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from make_word_problems import SIZES, as_jsonl, make_splits
from train_tiny_models import MISSING_SKILLS, bundled_questions
from word_problems import SKILLS

Row = dict[str, Any]


def validation_draw(seed: int) -> list[Row]:
    """As many new validation questions as the bundled split has."""
    bundled = bundled_questions()
    drawn = make_splits(1000 + seed)
    rows = [row for row in drawn["test"] + drawn["train"] if row["question"] not in bundled]
    by_skill: dict[str, list[Row]] = {skill: [] for skill in SKILLS}
    for row in rows:
        by_skill[row["skills"][0]].append(row)
    each = SIZES["validation"] // len(SKILLS)
    assert all(len(found) >= each for found in by_skill.values())
    return [found[i] for i in range(each) for found in by_skill.values()]


def profile(student: Path | None, seed: int, workspace: Path, pipeline: str) -> list[Row]:
    """The profile's rows, the most missing skill first."""
    from datasets import load_from_disk

    with TemporaryDirectory() as folder:
        (Path(folder) / "validation.jsonl").write_text(as_jsonl(validation_draw(seed)))
        command = ["llm-distill", "run", pipeline, "--until", "profile"]
        command += ["--workspace", str(workspace), "--set", f"seed={seed}"]
        command += ["--set", f"stages.validation.path={folder}"]
        if student is not None:
            command += ["--set", f"models.student.model_name_or_path={student}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    newest = max(workspace.glob("runs/*/*/run.json"), key=lambda path: path.stat().st_mtime)
    run = json.loads(newest.read_text())
    artifact = workspace / "artifacts" / run["stages"]["profile"]["artifact"]
    return list(load_from_disk(str(artifact)))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--student", type=Path)
    parser.add_argument("--missing-skills", nargs="*", default=MISSING_SKILLS, choices=SKILLS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[1, 2, 3, 4, 5])
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    parser.add_argument("--pipeline", default="pipelines/stat_profile.yaml")
    options = parser.parse_args()
    planted = set(options.missing_skills)
    scores: list[tuple[float, float]] = []
    print("| seed | profile | precision | recall | share of the weight |")
    print("| --- | --- | --- | --- | --- |")
    for seed in options.seeds:
        rows = profile(options.student, seed, options.workspace, options.pipeline)
        top = {row["skill"] for row in rows[: len(planted)]}
        found = len(top & planted)
        scores.append((found / max(len(top), 1), found / len(planted)))
        weight = sum(row["weight"] for row in rows if row["skill"] in planted)
        listed = ", ".join(f"{row['skill']} {row['count']}" for row in rows)
        precision, recall = scores[-1]
        print(f"| {seed} | {listed} | {precision:.0%} | {recall:.0%} | {weight:.0%} |", flush=True)
    precision, recall = (_mean(column) for column in zip(*scores, strict=True))
    print(f"\nmean precision {precision:.1%}, mean recall {recall:.1%}")
    return 0 if min(precision, recall) >= 0.95 else 1


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


if __name__ == "__main__":
    sys.exit(main())
