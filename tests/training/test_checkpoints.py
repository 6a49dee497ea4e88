"""Which checkpoints are taken for whole."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from llm_distill.training.checkpoints import is_complete, last_complete


def make_checkpoint(folder: Path, step: int) -> Path:
    """The files that transformers writes, in its order."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": torch.rand(50, 50)}, path / "model.safetensors")
    torch.save({"state": {0: {"exp_avg": torch.rand(50, 50)}}}, path / "optimizer.pt")
    torch.save({"last_epoch": step}, path / "scheduler.pt")
    torch.save({"python": random.getstate(), "cpu": torch.get_rng_state()}, path / "rng_state.pth")
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return path


FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def test_a_whole_one_is_complete(tmp_path):
    assert is_complete(make_checkpoint(tmp_path, 3))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [None, 0.0, 0.5, 0.97])
def test_a_file_that_is_missing_or_cut_short_makes_it_incomplete(tmp_path, name, kept):
    path = make_checkpoint(tmp_path, 3)
    content = (path / name).read_bytes()
    (path / name).unlink()
    if kept is not None:
        (path / name).write_bytes(content[: int(len(content) * kept)])
    assert not is_complete(path)


def test_a_shard_that_the_index_names_must_be_there(tmp_path):
    path = make_checkpoint(tmp_path, 3)
    index = path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    assert is_complete(path)
    index.write_text(
        json.dumps({"weight_map": {"w": "model.safetensors", "v": "other.safetensors"}})
    )
    assert not is_complete(path)


def test_the_newest_whole_one_by_number_is_taken_and_broken_newer_ones_go(tmp_path):
    for step in (9, 10, 100, 200):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-200" / "trainer_state.json").unlink()
    (tmp_path / "checkpoint-100" / "optimizer.pt").write_bytes(b"half")
    (tmp_path / "checkpoint-last").mkdir()
    assert last_complete(tmp_path) == tmp_path / "checkpoint-10"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-9", "checkpoint-10", "checkpoint-last"}


def test_no_folder_is_no_checkpoint(tmp_path):
    assert last_complete(tmp_path / "none") is None
