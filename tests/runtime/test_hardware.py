"""What a machine has, from nvidia-smi, CUDA_VISIBLE_DEVICES and /proc."""

from __future__ import annotations

import os

import pytest

from llm_distill.runtime import hardware
from llm_distill.runtime.hardware import Hardware, this_machine


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts a program of this name on PATH, which prints lines or fails."""
    monkeypatch.setattr(hardware, "DRIVERS", (str(tmp_path),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    this_machine.cache_clear()

    def put(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)

    yield put
    this_machine.cache_clear()


TWO = "echo 81559\necho 24564"
LARGEST = 81559 * 2**20


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [(None, 2), ("0", 1), ("1,0", 2), ("", 0), ("-1", 0), ("0,5,1", 1), ("GPU-3f2a", 1)],
)
def test_gpus_that_cuda_shows(visible, gpus, smi, monkeypatch):
    smi(TWO)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = this_machine()
    assert found == Hardware(gpus, LARGEST if gpus else None, found.ram_bytes)


@pytest.mark.parametrize("script", ["exit 9", "echo '[N/A]'"])
def test_a_driver_that_does_not_answer_says_nothing(script, smi):
    smi(script)
    assert this_machine().gpus is None


def test_a_part_of_a_gpu_says_nothing(smi, monkeypatch):
    smi(TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-6a")
    assert this_machine().gpus is None


def test_without_a_driver_there_is_no_gpu(smi, monkeypatch):
    monkeypatch.setattr(hardware, "DRIVERS", ("/nowhere",))
    found = this_machine()
    assert (found.gpus, found.gpu_bytes) == (0, None)
    assert found.ram_bytes > 2**28
