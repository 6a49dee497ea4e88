"""Likelihoods of a list's labels with and without reading each text once.

    make setup-vllm
    .venv/bin/python benchmarks/label_scores.py [--model data/models/SmolLM2-135M-Instruct]

As `label` asks with `confidence: likelihood`: every label after the same prompt, for texts of this
project's documentation. Each pass scores the same requests, in the order on, off, off, on. Prints
texts in a processor second of both, their ratio (the bar for 17 labels is 3), and the largest
difference between the log-probabilities of a label.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import mean

from hardware import describe
from table import show

from llm_distill.engines.base import ScoreRequest
from llm_distill.engines.transformers import scoring
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.sources import ModelSource
from llm_distill.prompts import load_template

NAMES = (
    "arts", "conflict", "crime", "disaster", "economy", "education", "environment", "health",
    "human interest", "labour", "lifestyle", "politics", "religion", "science", "society", "sport",
    "weather",
)  # fmt: skip
CASES = ((2, 20), (8, 20), (17, 20), (17, 200))
"""Labels, and words a text."""
WAYS = {"on": scoring.score_sharing, "off": scoring.score_batch}


def texts(n: int, n_words: int) -> list[str]:
    words = " ".join(file.read_text() for file in sorted(Path("docs").glob("*.md"))).split()
    return [" ".join(words[i * n_words : (i + 1) * n_words]) for i in range(n)]


def requests(n_labels: int, n_words: int, n: int) -> list[ScoreRequest]:
    template = load_template("label/one.jinja")
    labels = [
        {"name": name, "definition": f"What is about {name}", "examples": []} for name in NAMES
    ]
    return [
        ScoreRequest(f"{i}/{name}", [{"role": "user", "content": prompt}], f"<label>{name}</label>")
        for i, text in enumerate(texts(n, n_words))
        for prompt in [
            template.render({"text": text, "labels": labels[:n_labels], "abstain": False})
        ]
        for name in NAMES[:n_labels]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--texts", type=int, default=16)
    options = parser.parse_args()
    print(describe("torch", "transformers", "llm-distill"))
    source = ModelSource("model", options.model, dtype="float32")
    engine = TransformersEngine(source, TransformersSettings(device="cpu"))
    lines = []
    for n_labels, n_words in CASES:
        asked = requests(n_labels, n_words, options.texts)
        seconds: dict[str, list[float]] = {"on": [], "off": []}
        scores: dict[str, dict[str, float]] = {}
        for way in ("on", "off", "off", "on"):
            engine.__dict__["_fitting_score"] = WAYS[way]
            start = time.process_time()
            scores[way] = {score.id: sum(score.logprobs) for score in engine.score(asked)}
            seconds[way].append(time.process_time() - start)
        on, off = (options.texts / mean(seconds[way]) for way in ("on", "off"))
        furthest = max(abs(scores["on"][key] - scores["off"][key]) for key in scores["on"])
        lines.append(
            [
                f"{n_labels}",
                f"{n_words}",
                f"{on:.2f}",
                f"{off:.2f}",
                f"{on / off:.2f}",
                f"{furthest:.1e}",
            ]
        )
    show(("labels", "words", "texts/s, on", "off", "ratio", "largest difference"), lines)


if __name__ == "__main__":
    main()
