"""Is there a signal for ARTE, and did the teacher change? Over all runs of the controls.

    python scripts/arte_signal.py --workspace data

Prints, as means over the seeds: the student's score by strategy, pairs and their margins, which
strategies were preferred, the styles of the teacher with the naive prompt on the same drafts before
and after DPO, the share of copy riddles among its drafts, and each student's accuracy by skill in
the exam without examples (a two-step problem needs addition as well, and counts for both).
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from datasets import load_from_disk
from finished_runs import finished_runs
from word_problems import STYLES, is_copy_riddle, style_of

from llm_distill.manifest import read_manifest


def metrics(artifact: Path) -> dict[str, Any]:
    """The metrics in an artifact's manifest."""
    manifest = read_manifest(artifact)
    assert manifest is not None, f"{artifact} has no manifest"
    return manifest.metrics


def style_shares(artifact: Path) -> dict[str, float]:
    texts: Sequence[str] = load_from_disk(str(artifact))["completion"]
    found = [style_of(text) for text in texts]
    return {style: found.count(style) / len(found) for style in STYLES}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--workspace", type=Path, default=Path("data"))
    parser.add_argument("--seeds", type=int, nargs="*", help="only these; all by default")
    options = parser.parse_args()
    chosen = finished_runs(options.workspace, "arte_controls", None, options.seeds)
    figures: dict[str, list[float]] = defaultdict(list)
    for artifacts in chosen.values():
        for strategy, score in metrics(artifacts["in_context_scores"])["mean_score"].items():
            figures[f"mean score, {strategy}"].append(score)
        pairs = metrics(artifacts["preferences"])
        for kind, count in pairs["pairs"].items():
            figures[f"pairs, {kind}"].append(count)
            figures[f"mean margin, {kind}"].append(pairs["mean_margin"][kind])
        for strategy, count in pairs["chosen_strategies"].items():
            figures[f"chosen, {strategy}"].append(count)
        for stage, when in (("naive_texts", "before"), ("rationale_only_texts", "after")):
            for style, share in style_shares(artifacts[stage]).items():
                figures[f"naive prompt, {style}, {when}"].append(share)
        for stage, when in (("draft_questions", "before"), ("tailored_questions", "after")):
            questions = load_from_disk(str(artifacts[stage]))["question"]
            riddles = sum(map(is_copy_riddle, questions)) / len(questions)
            figures[f"drafts, copy riddles, {when}"].append(riddles)
        for row in metrics(artifacts["controls"])["by_skills"]:
            if row["shots"] == 0:
                figures[f"{row['model']}, {row['skills']}"].append(row["accuracy"])
    print(f"seeds: {list(chosen)}\n")
    for name, values in figures.items():
        print(f"{name:36} {mean(values):8.3f}   {min(values):8.3f} to {max(values):8.3f}")


if __name__ == "__main__":
    main()
