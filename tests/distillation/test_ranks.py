"""Two processes on the rows of a step end with the weights of one process that has them all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from llm_distill.models.sources import load_model
from tests.distillation import ranks, tiny
from tests.tiny_tokenizer import tiny_tokenizer

ROOT = Path(__file__).parents[2]


def process(rank: int, port: int, folder: Path) -> subprocess.Popen[bytes]:
    """A process as torchrun starts it; they talk over the loopback device alone."""
    own = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    own |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distillation.ranks", str(folder)],
        cwd=ROOT,
        env={**os.environ, **own, "PYTHONPATH": str(ROOT)},
        stdout=(folder / f"rank {rank}.log").open("wb"),
        stderr=subprocess.STDOUT,
    )


@pytest.mark.slow
def test_two_processes_train_as_one_does(tmp_path) -> None:
    """The rows of one process have other numbers of chunks and tokens than those of the other."""
    from safetensors.torch import load_file

    tiny.make_teacher(tmp_path)
    student = load_model(tiny.make_student(tmp_path))
    tiny.save(tmp_path / "twin", tiny_tokenizer(tiny.FEW_PIECES, 268), 5)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [process(rank, port, tmp_path) for rank in range(2)]
    try:
        one = ranks.trained(tmp_path, 1)
        codes = [each.wait(timeout=240) for each in started]
    finally:
        for each in started:
            each.kill()
            each.wait()
    assert codes == [0, 0], [(tmp_path / f"rank {rank}.log").read_text()[-3000:] for rank in (0, 1)]
    two, other = (load_file(tmp_path / f"rank {rank}.safetensors") for rank in range(2))
    before = dict(student.named_parameters())
    assert one.keys() == two.keys() == other.keys()
    for name, expected in one.items():
        weight = name.partition(": ")[2]
        assert torch.equal(two[name], other[name]), name
        began = before[weight].detach() if weight in before else torch.zeros(())
        moved, expected = two[name] - began, expected - began
        largest = expected.abs().max().item()
        assert largest > 0, name
        # A weight near 1 is known to float32's step there, however little it has moved.
        rounding = 2 * torch.finfo(torch.float32).eps * began.abs().max().item()
        assert (moved - expected).abs().max().item() < 2e-3 * largest + rounding, name
    assert {name.partition(": ")[0] for name in one} == {*ranks.RUNS}
