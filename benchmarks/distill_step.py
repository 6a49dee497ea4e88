"""A training step of train_distill (alm and sft, scores stored) beside one of TRL's SFTTrainer.

    python benchmarks/distill_step.py
    python benchmarks/distill_step.py --random 256,4,8192 --steps 4

SmolLM2-135M-Instruct where it is in data/models, else a random Llama of `--random` hidden size,
layers and vocabulary; float32, all weights, AdamW, rows of random tokens that are all in the loss.
Every run is a process of its own, in the order TRL, ours, ours, TRL. Prints the median step and the
peak memory (of the process on a CPU, allocated on a GPU) of both, and their ratios: the bar is 1.2
for time and 1.1 for memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from hardware import describe
from table import show

from llm_distill.models.sources import ModelSource

SMOLLM2 = Path("data/models/SmolLM2-135M-Instruct")
TOKENIZER = Path("data/models/tiny-student")
WARM_UP = 2
TOKENS_PER_CHUNK = 1.3


def model_and_source(options: argparse.Namespace) -> tuple[Any, ModelSource]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from llm_distill.models.sources import load_model

    if SMOLLM2.is_dir() and options.random is None:
        source = ModelSource("smollm2", str(SMOLLM2), dtype="float32")
        return load_model(source), source
    hidden, layers, vocabulary = map(int, (options.random or "576,30,49152").split(","))
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3,
        num_hidden_layers=layers,
        num_attention_heads=max(1, hidden // 64),
        vocab_size=vocabulary,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config), ModelSource("random", str(TOKENIZER), prompt_format="text")


def rows(options: argparse.Namespace, vocabulary: int, with_chunks: bool) -> Any:
    """Random tokens, all of them but the first in the loss and, where asked for, in a chunk."""
    import numpy as np
    from datasets import Dataset

    generator = np.random.default_rng(0)
    n_chunks = int(options.tokens / TOKENS_PER_CHUNK)
    columns: dict[str, list[Any]] = {}
    for _ in range(options.rows * (options.steps + WARM_UP)):
        ids = generator.integers(0, vocabulary, options.tokens, dtype=np.int32)
        row = {"input_ids": ids, "labels": ids}
        if with_chunks:
            inner = generator.choice(np.arange(1, options.tokens - 1), n_chunks - 1, replace=False)
            ends = np.sort(np.append(inner, options.tokens - 1)).astype(np.int32)
            chunk_of = np.searchsorted(ends, np.arange(options.tokens)).astype(np.int32)
            chunk_of[0] = -1
            logps = -generator.exponential(3.0, n_chunks).astype(np.float32)
            row |= {"chunk_of": chunk_of, "chunk_ends": ends, "chunk_logps": logps}
        for name, values in row.items():
            columns.setdefault(name, []).append(values)
    return Dataset.from_dict(columns)


def measure(kind: str, options: argparse.Namespace) -> dict[str, float]:
    """Seconds of the median step and MiB at the peak."""
    import torch
    from transformers import TrainerCallback

    from llm_distill.distillation.alignment.encoding import row_encoder
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.distillation.trainer import distill_trainer
    from llm_distill.training.sft import sft_trainer

    torch.set_num_threads(options.threads)
    model, source = model_and_source(options)
    encoder = row_encoder(source, None)
    dataset = rows(options, model.config.vocab_size, kind == "ours")
    cuda = torch.cuda.is_available()
    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize() if cuda else None
            self.start = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            torch.cuda.synchronize() if cuda else None
            seconds.append(time.perf_counter() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        arguments = {
            "output_dir": folder,
            "per_device_train_batch_size": options.rows,
            "max_steps": options.steps + WARM_UP,
            "learning_rate": 1e-5,
            "use_cpu": not cuda,
            "bf16": options.bf16,
            "disable_tqdm": True,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "dataloader_pin_memory": cuda,
        }
        if kind == "ours":
            numpy = dataset.with_format("numpy")
            trainer: Any = distill_trainer(
                model, numpy, encoder, arguments, None, DistillSettings(), None
            )
        else:
            trainer = sft_trainer(model, dataset, encoder.tokenizer, arguments, None)
        trainer.add_callback(Clock())
        trainer.train()
    peak = (
        torch.cuda.max_memory_allocated() / 2**20
        if cuda
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    )
    return {"seconds": median(seconds[WARM_UP:]), "peak": peak}


def in_a_process(kind: str) -> dict[str, float]:
    command = [sys.executable, *sys.argv, "--only", kind]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    result: dict[str, float] = json.loads(found.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=8, help="in a step")
    parser.add_argument("--tokens", type=int, default=256, help="in a row")
    parser.add_argument("--steps", type=int, default=6, help="measured, after 2 to warm up")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--random", help="HIDDEN,LAYERS,VOCABULARY of a random Llama")
    parser.add_argument("--only", choices=("trl", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(options.only, options)))
        return
    runs: dict[str, list[dict[str, float]]] = {"trl": [], "ours": []}
    for kind in ("trl", "ours", "ours", "trl"):
        runs[kind].append(in_a_process(kind))
    time_of = {kind: sum(run["seconds"] for run in found) / 2 for kind, found in runs.items()}
    peak_of = {kind: max(run["peak"] for run in found) for kind, found in runs.items()}
    print(describe("torch", "transformers", "trl"))
    name = "SmolLM2-135M" if SMOLLM2.is_dir() and options.random is None else "a random Llama"
    print(f"{name}, {options.rows} rows x {options.tokens} tokens, {options.threads} threads")
    lines = [(k, f"{time_of[k]:.2f}", f"{peak_of[k]:,.0f}") for k in ("trl", "ours")]
    lines.append(
        (
            "ratio",
            f"{time_of['ours'] / time_of['trl']:.2f}",
            f"{peak_of['ours'] / peak_of['trl']:.2f}",
        )
    )
    show(("", "s a step", "peak MiB"), lines)


if __name__ == "__main__":
    main()
