"""Weights in the loss: a row of weight w is a row that stands there w times."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from llm_distill.errors import DataError
from llm_distill.models.sources import load_model, load_tokenizer
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.data import sft_example
from llm_distill.training.encoder import pair_encoder
from llm_distill.training.loop import out_of_memory_explained
from llm_distill.training.settings import TrainingSettings

Gradients = dict[str, torch.Tensor]


def stage(**settings):
    settings = {"weight_column": "weight", "on_collapse": "ignore", **settings}
    return TrainSft(stage="train_sft", model="m", rows="r", **settings)


@pytest.fixture
def gradients(text_model, rows, tmp_path) -> Callable[..., tuple[float, Gradients]]:
    """Loss and gradient of the first optimizer step over rows by their number.

    What is between is float32 in part (norms, TRL's head), so the tolerance is of that kind.
    """
    from transformers import TrainerCallback

    from llm_distill.training.sft import sft_trainer

    rows[0]["completion"] *= 4  # lengths differ: weights of rows are not those of tokens

    class Stop(TrainerCallback):
        found: Gradients

        def on_pre_optimizer_step(self, args, state, control, model=None, **_: Any) -> None:
            self.found = {n: p.grad.clone() for n, p in model.named_parameters()}

    def of(
        numbers: list[int], weights: list[float] | None = None, size: int = 64, times: int = 1
    ) -> tuple[float, Gradients]:
        encoder = pair_encoder(text_model, 256)
        examples: list[dict[str, Any]] = [
            sft_example(*encoder.encode(rows[i]["prompt"], rows[i]["completion"])) for i in numbers
        ]
        if weights is not None:
            examples = [{**e, "weight": w} for e, w in zip(examples, weights, strict=True)]
        arguments = {
            "output_dir": str(tmp_path / "checkpoints"),
            "per_device_train_batch_size": size,
            "gradient_accumulation_steps": times,
            "max_steps": 1,
            "max_grad_norm": 0.0,
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "report_to": "none",
            "save_strategy": "no",
            "logging_steps": 1,
            "disable_tqdm": True,
            "seed": 1,
        }
        with out_of_memory_explained(TrainingSettings()):
            model = load_model(text_model).double()
            tokenizer = load_tokenizer(text_model)
            trainer = sft_trainer(model, Dataset.from_list(examples), tokenizer, arguments, None)
            stop = Stop()
            trainer.add_callback(stop)
            trainer.train()
        return trainer.state.log_history[0]["loss"], stop.found

    return of


def assert_same(one: tuple[float, Gradients], other: tuple[float, Gradients]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-4)  # the log is rounded
    scale = max(float(tensor.abs().max()) for tensor in one[1].values())
    for name, tensor in one[1].items():
        torch.testing.assert_close(other[1][name], tensor, rtol=1e-4, atol=1e-6 * scale)


@pytest.mark.parametrize("batches", [[[0, 1, 2, 3]], [[0, 1], [2, 3]], [[0], [1], [2, 3]]])
def test_the_loss_in_float64_is_that_of_repeated_rows(batches, text_model, tmp_path) -> None:
    """The trainer's two steps over a model whose log-probabilities are its parameters."""
    from trl.trainer.utils import FusedCausalLMOutput

    from llm_distill.training.sft import sft_trainer

    weights, labelled = [3.0, 0.5, 2.0, 1e-3], [4, 1, 3, 2]
    rows = [
        {"input_ids": [i] * 6, "labels": [-100] * (6 - n) + [1] * n, "weight": w}
        for i, (w, n) in enumerate(zip(weights, labelled, strict=True))
    ]
    arguments = {"output_dir": str(tmp_path), "use_cpu": True, "bf16": False, "report_to": "none"}
    trainer = sft_trainer(
        load_model(text_model), Dataset.from_list(rows), load_tokenizer(text_model), arguments, None
    )
    generator = torch.Generator().manual_seed(1)
    parameters = -torch.rand(4, 5, dtype=torch.float64, generator=generator)
    parameters.requires_grad_()

    def model(input_ids, labels, **_: Any) -> FusedCausalLMOutput:
        mask = labels[:, 1:] != -100
        return FusedCausalLMOutput(
            log_probs=parameters[input_ids[:, 0]] * mask,
            entropy=mask.double(),
            is_top1=mask,
            label_mask=mask,
        )

    collated = [trainer.data_collator([rows[i] for i in batch]) for batch in batches]
    steps, n_items = trainer.get_batch_samples(iter(collated), len(collated), torch.device("cpu"))
    loss = sum(
        trainer.compute_loss(model, dict(batch), num_items_in_batch=n_items) for batch in steps
    )
    loss.backward()
    tokens = [
        (i, t, w)
        for i, (w, n) in enumerate(zip(weights, labelled, strict=True))
        for t in range(5 - n, 5)
    ]
    total = sum(w for _, _, w in tokens)
    wanted = sum(-w * parameters[i, t].item() for i, t, w in tokens) / total
    assert loss.item() == pytest.approx(wanted, rel=1e-14)
    gradient = torch.zeros_like(parameters)
    for i, t, w in tokens:
        gradient[i, t] = -w / total
    torch.testing.assert_close(parameters.grad, gradient, rtol=1e-14, atol=0)


def test_weights_give_the_gradient_of_repeated_rows(gradients) -> None:
    weighted = gradients([0, 1, 2, 3], [3.0, 1.0, 2.0, 1.0])
    assert_same(weighted, gradients([0, 1, 0, 2, 3, 0, 2]))
    plain = gradients([0, 1, 2, 3])
    with pytest.raises(AssertionError):
        assert_same(weighted, plain)
    assert_same(gradients([0, 1, 2, 3], [1.0] * 4), plain)


def test_only_the_weights_ratios_count_even_where_they_are_tiny(gradients) -> None:
    one = gradients([0, 1, 2], [3.0, 1.0, 2.0])
    assert_same(one, gradients([0, 1, 2], [3e-6, 1e-6, 2e-6]))


@pytest.mark.parametrize(("size", "times"), [(1, 8), (4, 2), (3, 3)])
def test_accumulation_does_not_change_the_gradient(gradients, size, times) -> None:
    weights = [5.0, 1.0, 0.5, 2.0, 1.0, 3.0, 0.25, 1.0]
    whole = gradients(list(range(8)), weights, size=8)
    assert_same(whole, gradients(list(range(8)), weights, size=size, times=times))


def test_a_row_of_weight_0_is_not_there(run_stage, rows, text_model, weights, tmp_path) -> None:
    found = []
    for name, given in (
        ("zero", [{**row, "weight": float(i % 4)} for i, row in enumerate(rows)]),
        ("absent", [{**row, "weight": float(i % 4)} for i, row in enumerate(rows) if i % 4]),
    ):
        run = run_stage(
            stage(max_steps=2, per_device_train_batch_size=4),
            {"r": given},
            models={"m": text_model},
            work_dir=tmp_path / name,
        )
        assert run.metrics["n_rows"] == 6
        found.append((run.dropped, weights(run.model.directory)))
    assert found[0][0] == {"weight is 0": 2}
    assert found[1][0] == {}
    assert all(torch.equal(found[0][1][name], found[1][1][name]) for name in found[0][1])


def test_rows_without_a_usable_weight_are_counted(run_stage, rows, text_model) -> None:
    values = [1.0, None, math.nan, math.inf, -1.0, 2.0, -math.inf, 0.0]
    given = [{**row, "weight": value} for row, value in zip(rows, values, strict=True)]
    run = run_stage(stage(max_steps=1), {"r": given}, models={"m": text_model})
    assert run.metrics["n_rows"] == 2
    assert run.dropped == {
        "no weight": 1,
        "weight is not finite": 3,
        "weight is below 0": 1,
        "weight is 0": 1,
    }
    bad = [{**row, "weight": "much"} for row in rows]
    with pytest.raises(DataError, match="no row of 'r' can be trained on: 8 no weight"):
        run_stage(stage(max_steps=1), {"r": bad}, models={"m": text_model})
    assert stage().required_columns() == {"r": {"id", "prompt", "completion", "weight"}}


def test_without_a_weight_column_weights_do_not_matter(
    run_stage, rows, text_model, weights, tmp_path
) -> None:
    found = []
    for name, weight in (("one", 1.0), ("other", 9.0)):
        run = run_stage(
            stage(max_steps=1, weight_column=None),
            {"r": [{**row, "weight": weight * i} for i, row in enumerate(rows)]},
            models={"m": text_model},
            work_dir=tmp_path / name,
        )
        found.append(weights(run.model.directory))
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_weights_train_an_adapter_too(run_stage, rows, text_model, ask, trained) -> None:
    given = [{**row, "weight": 100.0 if i == 3 else 0.001} for i, row in enumerate(rows)]
    settings = {"max_steps": 80, "learning_rate": 1e-2, "peft": {"r": 32, "lora_alpha": 64}}
    run = run_stage(stage(**settings), {"r": given}, models={"m": text_model})
    answers = ask(trained(run.model, text_model), [row["prompt"] for row in rows])
    assert {text for text, _ in answers} == {rows[3]["completion"]}  # all that it was to learn


@pytest.mark.parametrize("lora", [None, {"r": 4}])
def test_without_rows_the_model_is_kept(
    lora, run_stage, rows, text_model, trained, ask, tmp_path: Path
) -> None:
    keep = stage(if_no_rows="keep_model", peft=lora)
    assert set(keep.may_be_empty()) == {"r"}
    run = run_stage(keep, {"r": []}, models={"m": text_model})
    assert run.warnings == ["'r' has no rows: model 'm' is passed on untrained"]
    assert (run.metrics["steps"], run.metrics["n_rows"], run.metrics["history"]) == (0, 0, [])
    source = trained(run.model, text_model)
    assert (run.model.base is None) == (lora is None)
    before, after = load_model(text_model), load_model(source)
    for name, tensor in before.state_dict().items():
        assert torch.equal(after.state_dict()[name], tensor)
    prompts = [row["prompt"] for row in rows[:2]]
    assert ask(source, prompts) == ask(text_model, prompts)
    again = run_stage(keep, {"r": []}, models={"m": text_model}, work_dir=tmp_path / "again")
    files = [sorted(r.model.directory.glob("*.safetensors")) for r in (run, again)]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_rows_of_which_none_fits_are_still_an_error(run_stage, rows, text_model) -> None:
    assert set(stage().may_be_empty()) == set()
    given = [{**row, "weight": 0.0} for row in rows]
    with pytest.raises(DataError, match="no row of 'r' can be trained on: 8 weight is 0"):
        run_stage(stage(if_no_rows="keep_model"), {"r": given}, models={"m": text_model})
