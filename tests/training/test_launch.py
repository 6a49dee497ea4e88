"""How many processes a training takes, and how they are started."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_kto import TrainKto
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training import launch
from llm_distill.training.launch import LaunchSettings, launched
from llm_distill.training.steps import StepRows

CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: {kind}
fsdp_config: {{fsdp_version: 2, fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP}}
num_machines: 1
num_processes: 2
"""


@pytest.fixture
def gpus(monkeypatch):
    def see(n: int) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: n > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: n)

    return see


def sft(**settings):
    return TrainSft(stage="train_sft", model="m", rows="r", **settings)


def test_one_process_without_a_gpu(gpus):
    gpus(0)
    assert sft().launched() is None
    assert sft(launch={"strategy": "fsdp2"}).launched() is None
    gpus(1)
    assert sft().launched() is None


@pytest.mark.parametrize(("visible", "in_step", "taken"), [(8, 8, 8), (8, 12, 6), (4, 2, 2)])
def test_all_gpus_that_can_share_a_step_evenly(gpus, visible, in_step, taken):
    gpus(visible)
    found = launched(LaunchSettings(), StepRows(in_step, 1))
    assert found is not None
    assert found.processes == taken
    assert not found.on_cpu
    assert f"--num_processes={taken}" in found.arguments


def test_a_divided_model_on_one_gpu_is_launched_too(gpus):
    gpus(1)
    found = sft(launch={"strategy": "fsdp2"}).launched()
    assert found is not None
    assert found.processes == 1


def test_machines_have_as_many_processes_each(gpus):
    gpus(3)
    found = sft(launch={"machines": 2}).launched()  # 3 GPUs on each, eight rows in a step
    assert found is not None
    assert (found.processes, found.machines) == (4, 2)
    assert "--num_machines=2" in found.arguments
    gpus(0)
    found = sft(launch={"machines": 2}).launched()
    assert found is not None
    assert (found.processes, found.on_cpu) == (2, True)


def test_more_processes_than_gpus_are_refused(gpus):
    gpus(2)
    with pytest.raises(Exception, match="processes: 8, but 2 GPUs are visible on this machine"):
        sft(launch={"processes": 8, "machines": 2}).launched()
    with pytest.raises(Exception, match="processes: 4, but 2 GPUs are visible"):
        sft(launch={"processes": 4}).launched()


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        (TrainSft, {"launch": {"processes": 3}}, "cannot share the 8 rows of a step.*1, 2, 4, 8"),
        (
            TrainKto,
            {"per_device_train_batch_size": 6, "launch": {"processes": 4}},
            "cannot share the 6 rows of a pass.*allowed: 1, 2, 3, 6",
        ),
        (
            TrainSft,
            {"train_batch_size": 8, "gradient_accumulation_steps": 2},
            "leave gradient_accumulation_steps out",
        ),
        (TrainSft, {"launch": {"machines": 3}}, "cannot share the 8 rows of a step"),
        (TrainSft, {"launch": {"machines": 2, "processes": 3}}, "3 processes cannot be divided"),
        (TrainDpo, {"loss_type": "aot", "launch": {"machines": 2}}, "processes: say how many"),
        (TrainSft, {"launch": {"strategy": "zero9"}}, "not a strategy.*allowed: ddp, fsdp2, zero2"),
    ],
)
def test_what_cannot_be_is_refused(stage, settings, message):
    kind = f"train_{stage.__name__[5:].lower()}"
    with pytest.raises(ValidationError, match=message):
        stage(stage=kind, model="m", rows="r", **settings)


def test_a_config_of_accelerates_says_how_many_and_how(tmp_path, gpus):
    gpus(0)
    config = tmp_path / "fsdp.yaml"
    config.write_text(CONFIG.format(kind="FSDP"))
    stage = sft(launch={"strategy": str(config)})
    assert stage.launch.is_sharded()
    found = stage.launched()
    assert found is not None
    assert found.arguments == (f"--config_file={config}", "--num_processes=2", "--num_machines=1")
    with pytest.raises(ValidationError, match="num_processes: 2, and processes is 4; say it once"):
        sft(launch={"strategy": str(config), "processes": 4})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "cannot be read as YAML"),
        ("a: 1", "not an accelerate config: no distributed_type"),
        ("distributed_type: MULTI_GPU\nnum_machines: 4", "is for 4 machines; set machines"),
    ],
)
def test_a_file_that_is_no_such_config_is_refused(text, message, tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(text)
    with pytest.raises(ValidationError, match=message):
        sft(launch={"strategy": str(config)})


def test_a_missing_package_is_told(monkeypatch):
    monkeypatch.setattr(launch, "find_spec", lambda name: None)
    assert list(sft().missing()) == []
    [(place, message)] = sft(launch={"machines": 2}).missing()
    assert place == "launch.machines"
    assert "pip install 'llm-distill[ray]'" in message
    [(place, message)] = sft(launch={"strategy": "zero3"}).missing()
    assert place == "launch.strategy"
    assert "pip install deepspeed" in message


def test_what_is_launched_is_not_part_of_the_fingerprint():
    from llm_distill.runtime.fingerprint import result_settings

    assert result_settings(sft()) == result_settings(sft(launch={"processes": 4}))
    assert result_settings(sft()) != result_settings(sft(train_batch_size=8))


def test_a_loss_over_a_pass_is_for_one_process_unless_said(gpus):
    from llm_distill.stages.train_dpo import TrainDpo

    gpus(4)

    def dpo(loss, **settings):
        return TrainDpo(stage="train_dpo", model="m", rows="r", loss_type=loss, **settings)

    taken = {loss: dpo(loss).launched() for loss in ("sigmoid", "aot", "sft")}
    assert taken["sigmoid"] is not None
    assert taken["sigmoid"].processes == 4
    assert taken["aot"] is None
    assert taken["sft"] is None
    shared = dpo(("sigmoid", "sft"), launch={"processes": 2})
    assert shared.further_settings() == {"launch.processes": 2}
    assert dpo("sigmoid", launch={"processes": 2}).further_settings() == {}
    assert dpo("sft", launch={"processes": 1}).further_settings() == {}
