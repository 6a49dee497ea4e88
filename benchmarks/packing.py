"""train_sft with and without padding: tokens a second, and the loss on rows that were held out.

    python benchmarks/packing.py [--rows 96] [--model data/models/SmolLM2-135M-Instruct]

The rows are this project's own documentation, a paragraph each, so of mixed length (said first).
All weights, float32 on a CPU, 8 rows or packs to a step. Each run is a process of its own, in the
order padded, padding_free, packing and back. The bar is 1.5 times the tokens a second of padded.
Tokens are those of the rows, without padding.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

from hardware import describe
from table import show

from llm_distill.models.sources import ModelSource

SMOLLM2 = Path("data/models/SmolLM2-135M-Instruct")
MODES = ("padded", "padding_free", "packing")
ROWS_A_STEP = 8
LONGEST = 512
HELD_OUT = 24


def paragraphs(tokenizer: Any) -> list[list[int]]:
    """Token ids, in an order that has nothing to do with their lengths."""
    files = sorted(Path("docs").rglob("*.md"))
    texts = [part.strip() for file in files for part in file.read_text().split("\n\n")]
    ids = [tokenizer(text)["input_ids"][:LONGEST] for text in sorted(texts, key=hash_of)]
    return [found for found in ids if len(found) > 3]


def hash_of(text: str) -> str:
    from hashlib import sha256

    return sha256(text.encode()).hexdigest()


def run(mode: str, options: argparse.Namespace) -> dict[str, float]:
    """Train on the first rows, and read those that are held out."""
    import torch
    from datasets import Dataset
    from transformers import TrainerCallback

    from llm_distill.models.sources import load_model, load_tokenizer
    from llm_distill.training.packing import packed
    from llm_distill.training.sft import sft_trainer

    source = ModelSource("model", options.model, dtype="float32")
    tokenizer, model = load_tokenizer(source), load_model(source)
    texts = paragraphs(tokenizer)
    held, kept = texts[:HELD_OUT], texts[HELD_OUT : HELD_OUT + options.rows]
    rows = Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in kept])
    if mode == "packing":
        rows = packed(rows, LONGEST)

    class Clock(TrainerCallback):  # type: ignore[misc]
        began = ended = 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.ended = time.perf_counter()

    arguments = {
        "output_dir": tempfile.mkdtemp(),
        "per_device_train_batch_size": 2 if mode == "packing" else ROWS_A_STEP,
        "num_train_epochs": 1,
        "learning_rate": 1e-4,
        "lr_scheduler_type": "constant",
        "use_cpu": not torch.cuda.is_available(),
        "bf16": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
    }
    trainer = sft_trainer(model, rows, tokenizer, arguments, None, padding_free=mode != "padded")
    clock = Clock()
    trainer.add_callback(clock)
    began = time.perf_counter()
    trainer.train()
    seconds = clock.ended - began
    losses, counts = [], []
    model.eval()
    with torch.no_grad():
        for ids in held:
            given = torch.tensor([ids], device=model.device)
            losses.append(model(input_ids=given, labels=given).loss.item() * (len(ids) - 1))
            counts.append(len(ids) - 1)
    n_tokens = sum(map(len, kept))
    return {
        "tokens/s": n_tokens / seconds,
        "steps": trainer.state.global_step,
        "held-out loss": sum(losses) / sum(counts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--model", default=str(SMOLLM2))
    parser.add_argument("--mode", choices=MODES, help="one run, as JSON")
    options = parser.parse_args()
    if options.mode:
        print(json.dumps(run(options.mode, options)))
        return
    from llm_distill.models.sources import load_tokenizer

    print(describe("torch", "transformers", "trl"))
    lengths = [len(ids) for ids in paragraphs(load_tokenizer(ModelSource("m", options.model)))]
    some = lengths[HELD_OUT : HELD_OUT + options.rows]
    tenths = quantiles(some, n=10)
    print(
        f"{len(some)} rows, {mean(some):.0f} tokens each, 10 to 90 %: {tenths[0]:.0f} to "
        f"{tenths[-1]:.0f}, longest {max(some)}"
    )
    found: dict[str, list[dict[str, float]]] = {mode: [] for mode in MODES}
    for mode in (*MODES, *reversed(MODES)):
        command = [sys.executable, __file__, "--mode", mode, "--rows", str(options.rows)]
        done = subprocess.run(
            [*command, "--model", options.model], capture_output=True, text=True, check=True
        )
        found[mode].append(json.loads(done.stdout.splitlines()[-1]))
        print(mode, found[mode][-1], flush=True)
    base = mean(each["tokens/s"] for each in found["padded"])
    show(
        ["", "tokens/s", "times padded", "steps", "held-out loss"],
        [
            [
                mode,
                f"{mean(each['tokens/s'] for each in runs):.0f}",
                f"{mean(each['tokens/s'] for each in runs) / base:.2f}",
                f"{runs[0]['steps']:.0f}",
                f"{mean(each['held-out loss'] for each in runs):.4f}",
            ]
            for mode, runs in found.items()
        ],
    )


if __name__ == "__main__":
    main()
