"""Processes that share a training end in what one would have trained, and never hang or stay."""

from __future__ import annotations

import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import psutil
import pytest
import torch
from datasets import Dataset

from llm_distill.errors import ModelError
from llm_distill.runtime.context import ModelInput, StageInputs
from llm_distill.runtime.worker import perform_in_worker
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_kto import TrainKto
from llm_distill.stages.train_sft import TrainSft
from llm_distill.tracking import TrackedRun
from llm_distill.training.settings import has_bfloat16
from tests.distillation import tiny
from tests.training.test_launch import CONFIG

# Eleven rows, eight to a step: the second step of an epoch has three, for two to share.
SETTINGS = {
    "model": "m",
    "rows": "r",
    "num_train_epochs": 3,
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3,
    "logging_steps": 1,
    "save_steps": 3,
    "on_collapse": "ignore",
}
LORA = {"r": 4}


class Bar:
    def advance(self, n=1, tokens=0, cost=0.0, requests=None): ...


def train(stage, folder: Path, rows, *models, held: Path | None = None):
    """models: of which the first is trained. held: the rows called `e`."""
    if not (folder / "rows").exists():
        Dataset.from_list(rows).save_to_disk(str(folder / "rows"))
        (folder / "work").mkdir()
    inputs = StageInputs(
        seed=0,
        work_dir=folder / "work",
        store=folder / "store.sqlite",
        tracked=TrackedRun("test", "test/now/stage", folder / "tracking"),
        log=folder / "stage.log",
        rows={"r": folder / "rows"} | ({"e": held} if held else {}),
        models={name: ModelInput(source, None) for name, source in zip("mt", models, strict=False)},
    )

    return perform_in_worker(stage, inputs, lambda *_: nullcontext(Bar()))


def some_rows(rows):
    many = [{**row, "id": f"{row['id']}-{n}"} for n in (1, 2) for row in rows][:11]
    return [
        {
            **row,
            "completion": row["completion"] + " And so on." * (n % 3),
            "chosen": row["completion"],
            "rejected": "I do not know. " + row["prompt"][: n + 5],
            "is_correct": n % 3 > 0,
            "weight": 1.0 + n % 4,
        }
        for n, row in enumerate(many)
    ]


def ranks() -> dict[int, psutil.Process]:
    """The processes that share a training which this test has started, as far as they live."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if "llm_distill.runtime.rank" in process.cmdline():
                found[int(process.environ()["RANK"])] = process
    return found


OF_CLUSTER = "LLM_DISTILL_TEST_CLUSTER"


def ranks_everywhere() -> dict[int, psutil.Process]:
    """Also those that the nodes of this test's cluster have started."""
    found = {}
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            of = process.environ()
            is_own = of.get(OF_CLUSTER) == os.environ[OF_CLUSTER]
            if "llm_distill.runtime.rank" in process.cmdline() and is_own:
                found[int(of["RANK"])] = process
    return found


def wait_for(what, seconds=300, during=None):
    """What it gives once that is true; `during` is the future of what ought to make it so."""
    until = time.monotonic() + seconds
    while not (found := what()):
        if during is not None and during.done():
            during.result()  # its error says more
            raise AssertionError("it ended before")
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return found


KINDS = {
    "sft": (TrainSft, {"peft": None}),
    "weighted": (TrainSft, {"peft": LORA, "weight_column": "weight"}),
    "sampled": (TrainSft, {"peft": None, "sample_weight_column": "weight"}),
    "dpo": (TrainDpo, {"peft": LORA}),
    "full dpo": (TrainDpo, {"peft": None}),
    "kto": (TrainKto, {"peft": LORA}),
}
CASES = [("sft", "ddp"), ("weighted", "ddp"), ("full dpo", "fsdp2")]
STRATEGIES = ["ddp", pytest.param("fsdp2", marks=pytest.mark.exhaustive)]
SAME = [("sampled", "ddp"), ("kto", "ddp"), ("dpo", "ddp"), ("dpo", "fsdp2"), ("sft", "fsdp2")]
SAME += [("sft", "config")]
CASES += [pytest.param(*case, marks=pytest.mark.exhaustive) for case in SAME]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "strategy"), CASES)
def test_two_processes_train_what_one_does(kind, strategy, rows, text_model, weights, tmp_path):
    of, own = KINDS[kind]
    settings = {"stage": f"train_{of.__name__[5:].lower()}", **SETTINGS, **own}
    one = train(of(**settings), tmp_path / "one", some_rows(rows), text_model)
    if strategy == "config":
        strategy = str(tmp_path / "config.yaml")
        Path(strategy).write_text(CONFIG.format(kind="FSDP"))
    shared = of(**settings, launch={"processes": 2, "strategy": strategy})
    temporary = set(Path(gettempdir()).glob("torchelastic_*"))
    two = train(shared, tmp_path / "two", some_rows(rows), text_model)
    assert temporary >= set(Path(gettempdir()).glob("torchelastic_*"))
    assert one.manifest["metrics"]["steps"] == two.manifest["metrics"]["steps"] == 6
    assert one.manifest["dropped"] == two.manifest["dropped"]
    losses = [
        [point["loss"] for point in done.manifest["metrics"]["history"]] for done in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
    expected, found = weights(one.directory), weights(two.directory)
    assert expected.keys() == found.keys()
    furthest = max((expected[name] - found[name]).abs().max() for name in expected)
    assert furthest < 1e-4
    assert (tmp_path / "two" / "stage.rank1.log").exists()


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not multiply in bfloat16")
def test_half_precision_is_the_trainings_own_under_a_launcher(strategy, rows, text_model, tmp_path):
    """It is used, and losses are not rounded to its three digits."""
    settings = {**SETTINGS, "stage": "train_dpo", "peft": LORA}
    launch = {"processes": 2, "strategy": strategy}
    losses = []
    for name, own in (("single", {}), ("half", {"bf16": True})):
        stage = TrainDpo(**settings, **own, launch=launch)
        done = train(stage, tmp_path / name, some_rows(rows), text_model)
        losses.append([point["loss"] for point in done.manifest["metrics"]["history"]])
    single, half = losses
    assert half != single
    assert half == pytest.approx(single, abs=2e-2)
    assert half[0] == pytest.approx(math.log(2), abs=1e-5)  # 0.6914 if it were rounded


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.skipif(not has_bfloat16(), reason="this processor does not multiply in bfloat16")
def test_a_base_in_half_precision_is_divided(rows, text_model, weights, tmp_path):
    """As the paper file of ARTE aligns its teacher: the adapter is single, and learns."""
    base = replace(text_model, dtype="bfloat16")
    settings = {**SETTINGS, "stage": "train_dpo", "peft": LORA, "bf16": True}
    settings |= {"gradient_checkpointing": True, "learning_rate": 1e-2}
    one = train(TrainDpo(**settings), tmp_path / "one", some_rows(rows), base)
    launch = {"processes": 2, "strategy": "fsdp2"}
    two = train(TrainDpo(**settings, launch=launch), tmp_path / "two", some_rows(rows), base)
    losses = [
        [point["loss"] for point in done.manifest["metrics"]["history"]] for done in (one, two)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=3e-2)
    assert losses[1][-1] < losses[1][0] - 0.05
    expected, found = weights(one.directory), weights(two.directory)
    assert expected.keys() == found.keys()
    assert {value.dtype for value in found.values()} == {torch.float32}
    learned = [name for name in found if "lora_B" in name]
    assert learned
    for name in learned:
        apart = (expected[name] - found[name]).norm() / expected[name].norm()
        assert apart < 0.2, name


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_distil_what_one_does(strategy, weights, tmp_path):
    teacher, student = tiny.make_teacher(tmp_path), tiny.make_student(tmp_path)
    own = {"teacher": "t", "online": True, "losses": {"alm": 1.0, "sft": 0.5}, "peft": None}
    settings = {"stage": "train_distill", **SETTINGS, **own, "per_device_train_batch_size": 3}
    rows = [*tiny.ROWS, {**tiny.ROWS[0], "id": "again"}]  # nine: the last step has three
    one = train(TrainDistill(**settings), tmp_path / "one", rows, student, teacher)
    shared = TrainDistill(**settings, launch={"processes": 2, "strategy": strategy})
    two = train(shared, tmp_path / "two", rows, student, teacher)
    for part in ("loss", "alm", "sft"):
        of_one, of_two = (
            [point[part] for point in done.manifest["metrics"]["history"]] for done in (one, two)
        )
        assert of_two == pytest.approx(of_one, abs=1e-5)
    expected, found = weights(one.directory), weights(two.directory)
    assert max((expected[name] - found[name]).abs().max() for name in expected) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_killed_rank_ends_the_stage_and_the_next_run_resumes(
    strategy, rows, text_model, weights, tmp_path
):
    launch = {"processes": 2, "strategy": strategy}
    settings = {**SETTINGS, "num_train_epochs": 20, "launch": launch, "on_collapse": "warn"}
    stage = TrainSft(stage="train_sft", **settings)
    whole = train(stage, tmp_path / "whole", some_rows(rows), text_model)
    checkpoints = tmp_path / "cut" / "work" / "checkpoints"
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, tmp_path / "cut", some_rows(rows), text_model)
        wait_for(lambda: list(checkpoints.glob("checkpoint-*/digests.json")), during=training)
        ranks()[1].kill()
        with pytest.raises(
            ModelError, match=r"rank 1 of 2 was killed \(SIGKILL\).*lower per_device"
        ):
            training.result()
    assert not ranks()
    resumed = train(stage, tmp_path / "cut", some_rows(rows), text_model)
    measured = [done.manifest["metrics"] for done in (whole, resumed)]
    began = [found.pop("resumed_from_step") for found in measured]
    assert began[0] is None
    assert began[1] > 0
    assert measured[0] == measured[1]
    expected, found = weights(whole.directory), weights(resumed.directory)
    assert all(expected[name].equal(found[name]) for name in expected)


@pytest.mark.slow
def test_an_error_on_a_rank_is_the_stages_error(rows, text_model, tmp_path):
    settings = {**SETTINGS, "stage": "train_sft", "learning_rate": 1e30}
    stage = TrainSft(**settings, launch={"processes": 2})
    with pytest.raises(ModelError, match="the loss is nan at step .*; lower learning_rate"):
        train(stage, tmp_path / "two", some_rows(rows), text_model)
    assert not ranks()


@pytest.mark.slow
def test_no_rank_outlives_its_worker(rows, text_model, tmp_path):
    settings = {**SETTINGS, "stage": "train_sft", "num_train_epochs": 500}
    stage = TrainSft(**settings, launch={"processes": 2})
    with ThreadPoolExecutor(1) as pool:
        training = pool.submit(train, stage, tmp_path / "two", some_rows(rows), text_model)
        wait_for(
            lambda: list((tmp_path / "two" / "work" / "checkpoints").glob("checkpoint-*")),
            during=training,
        )
        alive = ranks()
        alive[0].parent().kill()
        with pytest.raises(ModelError, match=r"its process was killed \(SIGKILL\)"):
            training.result()
    assert len(alive) == 2
    psutil.wait_procs(list(alive.values()), timeout=10)
    assert not any(rank.is_running() for rank in alive.values())
