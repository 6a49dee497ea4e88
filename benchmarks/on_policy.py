"""On-policy distillation: `train_distill` with `rollouts` beside TRL's trainers, at equal tokens.

    python benchmarks/on_policy.py

In the bundled world, on word problems, as plain text for all. One tokenizer: reverse KL on the
student's own texts, beside `DistillationTrainer`. Across tokenizers: alm, beside GOLD (`bayesian`,
hybrid), on the student's own texts; and on the teacher's, whose likelihoods are stored (GOLD asks
the teacher in each step). Each starts from the same student, and makes the same number of steps
over the same prompts, drawn at temperature 1, with Adam. Learning rates are chosen on
`--split validation`, each trainer's own, and what is reported is of `--split test`.

Every run is a process of its own, in the order ours, TRL, TRL, ours. Time and memory are from
loading the models to the saved student: seconds, seconds of the processor, and the highest
resident memory above that of a process that has imported all libraries. Bars: at least 1.5 times
as fast where likelihoods are stored, at most 0.8 of the memory, no worse an exam.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from hardware import describe
from memory import peak_above
from table import show

from llm_distill.methods.statistics import mean_interval

TEMPLATE = "arte/exam.jinja"
TASK = "Solve the word problem."
PAIRS = {  # ours, TRL's, whether the tokenizers are the same
    "one tokenizer, own texts": ("reverse_kl", "DistillationTrainer", True),
    "across, own texts": ("alm", "GOLD", False),
    "across, stored": ("alm stored", "GOLD teacher's text", False),
}
MOST = 72  # tokens of a text
WORLD = """
name: on_policy_benchmark
seed: 7
variables: {task_description: Solve the word problem.}
models:
  teacher: {model_name_or_path: data/models/tiny-teacher}
  plain_teacher: {model_name_or_path: data/models/tiny-teacher, prompt_format: text}
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  train: {stage: load_dataset, path: data/word_problems, split: train}
  written:
    stage: generate
    rows: train
    model: teacher
    template: arte/rationale_procedure.jinja
    sampling: {temperature: 1.0, max_tokens: 72}
    parse: {tags: {answer: ans}, keep_text_as: rationale}
  # The teachers answer the student's own prompt, as TRL gives both models the same text.
  other_tokenizer: &sft
    stage: train_sft
    model: plain_teacher
    rows: written
    prompt_template: arte/exam.jinja
    completion_column: rationale
    learning_rate: 5.0e-4
    num_train_epochs: 4
    per_device_train_batch_size: 16
    max_length: 256
  same_tokenizer: {<<: *sft, model: student, num_train_epochs: 8}
  began: {<<: *sft, model: student, num_train_epochs: 1, learning_rate: 2.5e-4}
"""


@dataclass
class Job:
    """A run of one process. teacher_calls: texts that the teacher read while it trained."""

    kind: str
    student: str
    teacher: str
    rows: str
    out: str
    steps: int
    batch: int
    rate: float
    seed: int


def ours(job: Job, rows: list[dict[str, str]]) -> int:
    """What the stage does between reading its rows and saving the student."""
    from llm_distill.distillation.alignment.encoding import row_encoder, turns_of
    from llm_distill.distillation.dataset import RowPreparation, prepared
    from llm_distill.distillation.rollouts.rows import RolloutRows
    from llm_distill.distillation.rollouts.settings import RolloutSettings
    from llm_distill.distillation.rollouts.step import Rollouts
    from llm_distill.distillation.rollouts.writing import Writer
    from llm_distill.distillation.settings import DistillSettings
    from llm_distill.distillation.teacher.identity import scored_by
    from llm_distill.distillation.teacher.online import TeacherInMemory
    from llm_distill.distillation.teacher.stored import StoredScores
    from llm_distill.distillation.trainer import distill_trainer
    from llm_distill.models.sources import ModelSource
    from llm_distill.training.weights import load_start, save_full, training_source

    student = ModelSource("student", job.student, prompt_format="text")
    teacher = ModelSource("teacher", job.teacher, prompt_format="text", dtype="float32")
    loss, _, is_stored = job.kind.partition(" ")
    settings = DistillSettings(losses={loss: 1.0})
    encoders = row_encoder(student, 256), row_encoder(teacher, None)

    def turns(row: Any) -> Any:
        return turns_of(row, "completion", lambda row: row["prompt"])

    written: Rollouts | None = None
    if is_stored:
        n = len(encoders[1].table.lengths)
        stored = StoredScores("rows", "teacher", scored_by(teacher), n, settings)
        preparation = RowPreparation(*encoders, turns, turns, settings, stored)
        signal: Any = stored
    else:
        signal = TeacherInMemory(teacher, encoders[1], settings)
        told = RolloutSettings(max_tokens=MOST)
        preparation = RolloutRows(
            *(*encoders, turns, turns, settings, signal),
            rollouts=told,
            with_text=lambda row, text: {**row, "completion": text},
        )
        writer = Writer(encoders[0], told)
        written = Rollouts(told, rows, preparation, writer, job.seed, 1.0, print)
    dataset = prepared(rows, preparation, lambda reason: None, "rows", 1.0)
    start = load_start(training_source(student, full=True))
    trainer: Any = distill_trainer(
        *(start.model, dataset, encoders[0], arguments(job), None, settings, signal),
        rollouts=written,
    )
    calls = Calls(None if is_stored else trainer._objective.signal.teacher.model)
    trainer.train()
    save_full(start, student, Path(job.out))
    return calls.n


def trl(job: Job, rows: list[dict[str, str]]) -> int:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(job.student, padding_side="left")
    load = AutoModelForCausalLM.from_pretrained
    student, teacher = (load(path, dtype="float32") for path in (job.student, job.teacher))
    calls = Calls(teacher)
    common = {**arguments(job), "max_completion_length": MOST, "temperature": 1.0, "top_p": 1.0}
    common |= {"gradient_checkpointing": False}
    if job.kind == "DistillationTrainer":
        from trl import DistillationConfig, DistillationTrainer

        trainer: Any = DistillationTrainer(
            *(student, teacher, DistillationConfig(**common, beta=1.0)),
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
            processing_class=tokenizer,
        )
    else:
        from trl.experimental.gold import GOLDConfig, GOLDTrainer

        config = GOLDConfig(
            **common,
            lmbda=1.0 if job.kind == "GOLD" else 0.0,
            max_length=256,
            use_uld_loss=True,
            uld_use_hybrid_loss=True,
            uld_token_merge_strategy="bayesian",
            teacher_tokenizer_name_or_path=job.teacher,
        )
        end = tokenizer.eos_token
        texts = [
            {"prompt": row["prompt"], "completion": f" {row['completion']}{end}"} for row in rows
        ]
        trainer = GOLDTrainer(
            *(student, teacher, config),
            train_dataset=Dataset.from_list(texts),
            processing_class=tokenizer,
        )
    trainer.train()
    trainer.save_model(job.out)
    tokenizer.save_pretrained(job.out)
    return calls.n


class Calls:
    """Counts the rows of a model's forward passes."""

    def __init__(self, model: Any) -> None:
        self.n = 0
        if model is not None:
            inner = model.base_model
            inner.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: Any, named: Any) -> None:
        ids = named.get("input_ids", args[0] if args else None)
        self.n += len(ids)


def arguments(job: Job) -> dict[str, Any]:
    return {
        "output_dir": f"{job.out}-trainer",
        "per_device_train_batch_size": job.batch,
        "max_steps": job.steps,
        "learning_rate": job.rate,
        "warmup_steps": 0.1,
        "lr_scheduler_type": "cosine",
        "seed": job.seed,
        "use_cpu": True,
        "bf16": False,
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "dataloader_pin_memory": False,
    }


def measure(job: Job) -> dict[str, float]:
    import torch
    import trl as _  # noqa: F401
    from trl import DistillationTrainer  # noqa: F401
    from trl.experimental.gold import GOLDTrainer  # noqa: F401

    import llm_distill.distillation.rollouts.step
    import llm_distill.distillation.trainer  # noqa: F401

    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    rows = json.loads(Path(job.rows).read_text())
    wall, cpu = time.perf_counter(), time.process_time()
    run = ours if job.kind in {pair[0] for pair in PAIRS.values()} else trl
    calls, peak = peak_above(lambda: run(job, rows))
    seconds = time.perf_counter() - wall, time.process_time() - cpu
    return {"wall": seconds[0], "cpu": seconds[1], "peak": peak / 2**20, "calls": calls}


def in_a_process(job: Job) -> dict[str, float]:
    command = [sys.executable, sys.argv[0], "--only", json.dumps(asdict(job))]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{job.kind}: {done.stderr[-3000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def world(folder: Path) -> tuple[dict[str, str], str, str]:
    """Models by name, the rows' file, and that of the rows with stored likelihoods."""
    import llm_distill as ld
    from llm_distill.engines.requests import render_prompt
    from llm_distill.prompts import load_template

    (folder / "world.yaml").write_text(WORLD)
    run = ld.run(folder / "world.yaml", workspace=folder / "data", progress="none")
    template = load_template(TEMPLATE)
    given = {"examples": [], "task_description": TASK}
    rows = [
        {
            "id": row["id"],
            "prompt": str(render_prompt(template, {**row, **given})).rstrip(),
            "completion": row["rationale"],
        }
        for row in run["written"].dataset
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    models = {name: str(run[name].path) for name in ("other_tokenizer", "same_tokenizer", "began")}
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    scoring = f"""
name: scored
models:
  teacher: {{model_name_or_path: {models["other_tokenizer"]}, prompt_format: text, dtype: float32}}
stages:
  rows: {{stage: load_dataset, path: {folder / "rows.jsonl"}}}
  scored: {{stage: score_likelihood, rows: rows, model: teacher}}
"""
    (folder / "scored.yaml").write_text(scoring)
    started = time.perf_counter()
    scored = ld.run(folder / "scored.yaml", workspace=folder / "data", progress="none")
    print(f"{len(rows)} texts scored once, in {time.perf_counter() - started:.1f} s", flush=True)
    (folder / "scored.json").write_text(json.dumps(list(scored["scored"].dataset)))
    return models, str(folder / "rows.json"), str(folder / "scored.json")


def exam(folder: Path, students: dict[str, str], split: str) -> dict[str, float]:
    """The share of the split's questions that each answers rightly."""
    import yaml

    import llm_distill as ld

    models = {
        name: {"model_name_or_path": path, "prompt_format": "text"}
        for name, path in students.items()
    }
    stages = {
        "asked": {"stage": "load_dataset", "path": "data/word_problems", "split": split},
        "exam": {
            "stage": "evaluate",
            "rows": "asked",
            "models": list(models),
            "template": TEMPLATE,
            "sampling": {"temperature": 0, "max_tokens": MOST, "stop": ["\nQuestion:"]},
        },
    }
    file = {"name": "exam", "variables": {"task_description": TASK}}
    (folder / "exam.yaml").write_text(yaml.safe_dump({**file, "models": models, "stages": stages}))
    run = ld.run(folder / "exam.yaml", workspace=folder / "data", progress="none")
    rows = run["exam"].results
    return {r["model"]: 100 * r["value"] for r in rows if r["table"] == "accuracy"}


def table(name: str, kinds: tuple[str, str], runs: dict[str, list[dict[str, float]]]) -> None:
    means = {
        kind: {key: fmean(run[key] for run in runs[kind]) for key in runs[kind][0]}
        for kind in kinds
    }
    a, b = (means[kind] for kind in kinds)
    header = ["s", "s of processor", "peak MiB", "texts read by the teacher", "exam %"]
    keys = ["wall", "cpu", "peak", "calls", "exam"]
    lines = [(kind, *(f"{means[kind][key]:.1f}" for key in keys)) for kind in kinds]
    ratios = [f"{a[key] / b[key]:.2f}" if b[key] else "" for key in keys[:4]]
    pairs = zip(*(runs[kind] for kind in kinds), strict=True)
    apart = [mine["exam"] - theirs["exam"] for mine, theirs in pairs]
    said = f"{fmean(apart):+.1f}"
    if len(apart) > 1:
        ends = mean_interval(apart)
        said += f" ({ends.low:+.1f} to {ends.high:+.1f})"
    lines.append(("ratio", *ratios, said))
    print(f"\n{name}")
    show(("", *header), lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--rows", type=int, default=16, help="in a step")
    kinds = [kind for pair in PAIRS.values() for kind in pair[:2]]
    parser.add_argument(
        "--rate",
        action="append",
        default=[],
        metavar="KIND=RATE",
        help=f"at its highest, 2.5e-4 unless given; kinds: {', '.join(kinds)}",
    )
    parser.add_argument("--split", choices=["validation", "test"], default="test")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each")
    parser.add_argument("--workspace", help="keeps the models that it begins with for a next time")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(measure(Job(**json.loads(options.only)))))
        return
    rates: dict[str, float] = dict.fromkeys(kinds, 2.5e-4)
    rates |= {kind: float(rate) for kind, rate in (each.split("=") for each in options.rate)}
    if {*rates} - {*kinds}:
        parser.error(f"--rate: kinds are {', '.join(kinds)}")
    print(describe("torch", "transformers", "trl"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.workspace or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        models, rows, scored = world(folder)
        print(f"{options.steps} steps of {options.rows} rows, at most {MOST} tokens a text")
        for name, (mine, theirs, is_same) in PAIRS.items():
            teacher = models["same_tokenizer" if is_same else "other_tokenizer"]
            runs: dict[str, list[dict[str, float]]] = {mine: [], theirs: []}
            students: dict[str, str] = {}
            for seed in range(options.seeds):
                for kind in (mine, theirs) if seed % 2 == 0 else (theirs, mine):
                    of = (scored if kind.endswith("stored") else rows), f"{folder}/{kind} {seed}"
                    told = options.steps, options.rows
                    job = Job(kind, models["began"], teacher, *of, *told, rates[kind], seed)
                    runs[kind].append(in_a_process(job))
                    students[f"{'ours' if kind == mine else 'trl'}_{seed}"] = job.out
            right = exam(folder, students, options.split)
            for kind, found in runs.items():
                side = "ours" if kind == mine else "trl"
                for seed, run in enumerate(found):
                    run["exam"] = right[f"{side}_{seed}"]
            table(name, (mine, theirs), runs)
        scores = exam(folder, models, options.split)
        said = ", ".join(f"{name} {score:.1f} %" for name, score in scores.items())
        print(f"\nbefore, and the teachers: {said}")


if __name__ == "__main__":
    main()
