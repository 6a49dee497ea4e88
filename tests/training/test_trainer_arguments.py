"""Other fields of TRL's configs reach the trainer, and mistakes are said before anything runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import trl
from pydantic import ValidationError

from llm_distill.errors import ModelError
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_kto import TrainKto
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training import trl_arguments
from llm_distill.training.settings import TrainingSettings, trainer_arguments

KINDS: dict[str, Any] = {
    "SFTConfig": TrainSft,
    "DPOConfig": TrainDpo,
    "KTOConfig": TrainKto,
}


def sft(**given: Any) -> TrainSft:
    return TrainSft(stage="train_sft", model="m", rows="r", max_steps=2, trainer_arguments=given)


def dpo(**given: Any) -> TrainDpo:
    return TrainDpo(stage="train_dpo", model="m", rows="r", trainer_arguments=given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"optimm": "sgd"}, "optimm is no field of TRL's SFTConfig; did you mean 'optim'"),
        ({"learning_rate": 1e-3}, "learning_rate is a setting of the stage"),
        ({"seed": 3}, "seed is set by llm-distill"),
        ({"packing": True}, "packing is a setting of the stage"),
        ({"eval_packing": True}, "eval_packing does nothing: rows reach TRL as tokens"),
        ({"eval_delay": 3}, "eval_delay does nothing: eval_rows and eval_steps say"),
        ({"trackio_space_id": "somebody/space"}, "trackio_space_id is set by llm-distill"),
        ({"fsdp_config": "nofile.json"}, "fsdp_config is about several devices"),
        ({"liger_kernel_config": 3}, "liger_kernel_config: Input should be a valid dictionary"),
        ({"optim": "adam_of_nobody"}, "adam_of_nobody"),
        ({"adam_beta2": "much"}, "adam_beta2: Input should be a valid number"),
        ({"optim": "adamw_torch", "neftune_noise_alpha": [1]}, "neftune_noise_alpha: Input should"),
    ],
)
def test_mistakes_are_said(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said.replace("'", ".")):
        sft(**given)


def test_each_training_has_its_own_fields() -> None:
    assert dpo(f_divergence_type="js_divergence").trainer_arguments
    with pytest.raises(ValidationError, match="f_divergence_type is no field of TRL.s SFTConfig"):
        sft(f_divergence_type="js_divergence")
    with pytest.raises(ValidationError, match="beta is a setting of the stage"):
        dpo(beta=0.3)
    given = {"stage": "train_distill", "model": "m", "rows": "r", "losses": {"sft": 1}}
    with pytest.raises(ValidationError, match="loss_type does nothing in this training"):
        TrainDistill.model_validate({**given, "trainer_arguments": {"loss_type": "dft"}})


def test_numbers_are_read_as_the_field_has_them() -> None:
    found = sft(adam_epsilon="1e-6", torch_compile="false").trainer_arguments
    assert found == {"adam_epsilon": 1e-6, "torch_compile": False}


def test_a_field_that_only_some_losses_read() -> None:
    with pytest.raises(ValidationError, match="label_smoothing is read by loss_type aot"):
        dpo(label_smoothing=0.1)
    given = {"stage": "train_dpo", "model": "m", "rows": "r", "loss_type": "robust"}
    assert TrainDpo.model_validate({**given, "trainer_arguments": {"label_smoothing": 0.1}})


def test_weights_of_rows_are_for_the_plain_loss() -> None:
    given = {"stage": "train_sft", "model": "m", "rows": "r", "weight_column": "w"}
    for name, value in (("loss_type", "dft"), ("label_smoothing_factor", 0.1)):
        with pytest.raises(ValidationError, match=f"{name} does not go with weight_column"):
            TrainSft.model_validate({**given, "trainer_arguments": {name: value}})


def test_they_reach_the_trainer(run_stage, rows, text_model, weights, tmp_path) -> None:
    def trained(name: str, stage: TrainSft) -> Any:
        run = run_stage(stage, {"r": rows}, models={"m": text_model}, work_dir=tmp_path / name)
        return weights(run.model.directory)

    plain, again = trained("plain", sft()), trained("again", sft(adam_beta2=0.999))
    other = trained("sgd", sft(optim="sgd"))
    assert all((plain[name] == again[name]).all() for name in plain)
    assert any((plain[name] != other[name]).any() for name in plain)


def test_a_package_that_is_missing_is_named(run_stage, rows, text_model, monkeypatch) -> None:
    from transformers import trainer_optimizer

    monkeypatch.setattr(trainer_optimizer, "is_bitsandbytes_available", lambda: False)
    monkeypatch.setattr(trainer_optimizer, "is_lomo_available", lambda: False)
    with pytest.raises(ModelError, match=r"trainer_arguments \{optim: 'lomo'\}.*lomo"):
        run_stage(sft(optim="lomo"), {"r": rows}, models={"m": text_model})


@pytest.mark.parametrize("config", KINDS)
def test_every_field_is_somebodys(config: str) -> None:
    """What a stage passes itself can't be given twice, and no name is out of date."""
    kind = KINDS[config]
    known = {field.name for field in dataclasses.fields(getattr(trl, config))}
    named = trl_arguments.PREPARES_ROWS | trl_arguments.EVALUATES | trl_arguments.SET_BY_THE_STAGE
    named |= trl_arguments.DEVICES
    everywhere = {f.name for c in KINDS for f in dataclasses.fields(getattr(trl, c))}
    assert named <= everywhere
    own = {"max_length", "packing", "padding_free", "eval_steps", "load_best_model_at_end"}
    assert not named & kind.model_fields.keys() - own

    class Tracked:
        project, name = "p", "n"

    class Context:
        tracked, work_dir = Tracked(), "unused"

        def warn(self, text: str) -> None:
            raise AssertionError(text)

    passed = trainer_arguments(TrainingSettings(), Context(), 1).keys()  # type: ignore[arg-type]
    assert passed <= named | kind.model_fields.keys()
    assert passed <= known
