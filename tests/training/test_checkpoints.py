"""Which checkpoints are taken for whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llm_distill.training.checkpoints import DIGESTS, last_whole, seal, why_not_whole

FILES = ("model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def make_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in FILES:
        (path / name).write_bytes(f"{name} of step {step}".encode() * 20)
    seal(path)
    return path


def test_what_was_sealed_is_whole(tmp_path: Path) -> None:
    assert why_not_whole(make_checkpoint(tmp_path, 3)) is None


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_damage_in_any_file(tmp_path: Path, name: str) -> None:
    path = make_checkpoint(tmp_path, 3)
    content = bytearray((path / name).read_bytes())
    content[7] ^= 1
    (path / name).write_bytes(content)
    assert why_not_whole(path) == f"{name} has changed"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [None, 0.0, 0.5, 0.97])
def test_so_is_a_file_that_is_missing_or_cut_short(
    tmp_path: Path, name: str, kept: float | None
) -> None:
    path = make_checkpoint(tmp_path, 3)
    content = (path / name).read_bytes()
    (path / name).unlink()
    if kept is not None:
        (path / name).write_bytes(content[: int(len(content) * kept)])
    assert why_not_whole(path) == f"{name} {'is missing' if kept is None else 'has changed'}"


@pytest.mark.parametrize("stated", ["", "{", "[]", "{}", "3", '{"gone.pt": "0"}', '{"a": {}}'])
def test_so_is_a_list_that_cannot_be_right(tmp_path: Path, stated: str) -> None:
    path = make_checkpoint(tmp_path, 3)
    (path / DIGESTS).write_text(stated)
    assert why_not_whole(path) is not None


def test_a_file_that_was_added_is_damage(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, 3)
    (path / "model-2.safetensors").write_bytes(b"x")
    assert why_not_whole(path) == "model-2.safetensors has changed"


def test_the_newest_whole_one_by_number_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for step in (9, 10, 100, 200):
        make_checkpoint(tmp_path, step)
    (tmp_path / "checkpoint-200" / DIGESTS).unlink()  # the kill came before it
    (tmp_path / "checkpoint-100" / "optimizer.pt").write_bytes(b"half")
    (tmp_path / "checkpoint-last").mkdir()
    assert last_whole(tmp_path) == tmp_path / "checkpoint-10"
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"checkpoint-9", "checkpoint-10", "checkpoint-last", "damaged-checkpoint-100"}
    assert "checkpoint-200 is not complete; training goes on from checkpoint-100" in caplog.text
    damaged = "checkpoint-100 is damaged (optimizer.pt has changed); training goes on from"
    assert f"{damaged} checkpoint-10" in caplog.text


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert last_whole(tmp_path / "none") is None


def test_the_list_is_json_of_all_files(tmp_path: Path) -> None:
    path = make_checkpoint(tmp_path, 3)
    assert sorted(json.loads((path / DIGESTS).read_text())) == sorted(FILES)
