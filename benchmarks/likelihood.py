"""Scoring texts for ALM beside the bare forward pass with a dense head, and bytes a token on disk.

    python benchmarks/likelihood.py
    python benchmarks/likelihood.py --device cuda --random 2048,8,128256 --batch-tokens 32768

The same model, rows and batches, in one process, one thread. "dense" is `model(input_ids).logits`:
logits of all positions and nothing computed from them. "scores" is what the stage score_likelihood
does: the backbone, and the output layer in tiles over the positions in the loss, with log p(token)
and log p(boundary) of each. The model is SmolLM2-135M-Instruct from data/models where it is there,
otherwise, or with --random HIDDEN,LAYERS,VOCABULARY, a random Llama; float32 on the CPU, bfloat16
on a GPU. Each way is taken twice, in the order dense, scores, scores, dense. Memory is the highest
above the model's own, on a GPU what is allocated there.

Bar: as many tokens a second as the dense pass.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import datasets
import numpy as np
import torch
from hardware import describe
from memory import allocated_above, peak_above
from process_reward import answers, random_llama
from table import show

from llm_distill.distillation.alignment.encoding import EncodedRow, in_loss, row_encoder
from llm_distill.distillation.teacher.scoring import Scores, TeacherScorer, batches
from llm_distill.models.sources import DType, ModelSource, load_model
from llm_distill.rows.columns import features
from llm_distill.runtime.writer import DATA_FILE, write_rows
from llm_distill.stage import RowsOutput

SMOLLM2 = Path("data/models/SmolLM2-135M-Instruct")
BAR = 1.0
TOP_K = 128
TOLERANCE = {"cpu": 1e-3, "cuda": 0.1}
"""Half precision on a GPU."""


def encoded(source: ModelSource, n: int) -> list[EncodedRow]:
    """Word problems, each with an answer of 2 to 10 steps."""
    encoder, rng = row_encoder(source, None), random.Random(0)
    rows = []
    for question, steps in answers(n, 10):
        answer = " ".join(steps[: rng.randrange(2, 11)])
        asked = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        rows.append(encoder.encode(asked))
    return rows


def dense(model: Any, rows: Sequence[EncodedRow], batch_tokens: int) -> None:
    for batch in batches([len(row.ids) for row in rows], batch_tokens):
        longest = max(len(rows[index].ids) for index in batch)
        ids = np.zeros((len(batch), longest), np.int64)
        for line, index in zip(ids, batch, strict=True):
            line[: len(rows[index].ids)] = rows[index].ids
        with torch.inference_mode():
            model(input_ids=torch.from_numpy(ids).to(model.device), use_cache=False)


def on_disk(scores: Sequence[Scores]) -> float:
    """Bytes a token, of these columns and an id, as the stage writes them."""
    columns = list(scores[0])
    rows = [{"id": str(index), **row} for index, row in enumerate(scores)]
    with TemporaryDirectory() as folder:
        write_rows(RowsOutput(rows, features(["id", *columns])), Path(folder))
        size = (Path(folder) / DATA_FILE).stat().st_size
    return size / sum(len(row["teacher_logps"]) for row in scores)


def timed(call: Callable[[], Any], device: str) -> tuple[float, int]:
    start = time.perf_counter()
    _, peak = peak_above(call) if device == "cpu" else allocated_above(call)
    return time.perf_counter() - start, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=192)
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--random", help="HIDDEN,LAYERS,VOCABULARY of a random Llama")
    options = parser.parse_args()
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    with TemporaryDirectory() as folder:
        dtype: DType = "float32" if options.device == "cpu" else "bfloat16"
        if SMOLLM2.is_dir() and options.random is None:
            source = ModelSource("smollm2", str(SMOLLM2), dtype=dtype)
        else:
            shape = map(int, options.random.split(",")) if options.random else ()
            source = replace(random_llama(folder, *shape), dtype=dtype)
        rows = encoded(source, options.rows)
        names = [str(index) for index in range(len(rows))]
        encoder = row_encoder(source, None)
        more = {"batch_tokens": options.batch_tokens, "device": options.device}
        scorer = TeacherScorer(source, encoder, **more)
        model = load_model(source, device=options.device)
        ways: dict[str, Callable[[], Any]] = {
            "dense": lambda: dense(model, rows, options.batch_tokens),
            "scores": lambda: scorer.score(rows, names),
        }
        scores = scorer.score(rows[:16], names)
        dense(model, rows[:16], options.batch_tokens)  # both are warm
        costs: dict[str, list[tuple[float, int]]] = {name: [] for name in ways}
        for name in [*ways, *reversed(ways)]:
            costs[name].append(timed(ways[name], options.device))
        few = TeacherScorer(source, encoder, top_k=TOP_K, **more).score(rows[:16], names)
        vocabulary = model.get_output_embeddings().weight.shape[0]
    total = sum(len(row.ids) for row in rows)
    n_scored = sum(len(in_loss(row)) for row in rows)
    print(describe("torch", "transformers"))
    print(
        f"{source.name}: {len(rows)} rows of {total} tokens, {n_scored} of them in the "
        f"loss, vocabulary {vocabulary}, {options.batch_tokens} tokens a batch"
    )
    show(
        ("", "tokens/s", "memory above, MB"),
        [
            (
                name,
                f"{2 * total / sum(seconds for seconds, _ in found):.0f}",
                f"{max(peak for _, peak in found) / 1e6:.0f}",
            )
            for name, found in costs.items()
        ],
    )
    ratio = sum(s for s, _ in costs["dense"]) / sum(s for s, _ in costs["scores"])
    print(f"scores at {ratio:.2f} times the tokens a second of the dense pass (bar {BAR:g})")
    print("bytes a token on disk:")
    show(
        ("", "bytes"),
        [
            ("log p(token) and log p(boundary)", f"{on_disk(scores):.1f}"),
            (f"and the {TOP_K} likeliest tokens", f"{on_disk(few):.1f}"),
            ("all logits in bfloat16 (computed)", f"{2 * vocabulary:.0f}"),
        ],
    )
    worst = max(difference(model, row, found) for row, found in zip(rows, scores, strict=False))
    print(f"log-probabilities differ from the dense ones by at most {worst:.1e}")
    if worst > TOLERANCE[options.device]:
        raise SystemExit("the two ways give different scores")


def difference(model: Any, row: EncodedRow, scores: Scores) -> float:
    """The largest, between the scores of a row and those from its dense logits."""
    places = in_loss(row)
    with torch.inference_mode():
        ids = torch.from_numpy(row.ids[None].astype(np.int64)).to(model.device)
        logits = model(input_ids=ids).logits[0].float()
    wanted = logits.log_softmax(-1).cpu()[places - 1, row.ids[places]].numpy()
    return float(np.abs(wanted - scores["teacher_logps"]).max())


if __name__ == "__main__":
    main()
