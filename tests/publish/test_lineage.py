"""What a card quotes is what its artifacts' manifests said when they were made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import WorkspaceError
from llm_distill.manifest import MANIFEST, manifest_digest
from llm_distill.publish import lineage
from llm_distill.publish.lineage import read_lineage

BIG = b"\0" * (lineage.READ_UP_TO + 1)


def edit(path: Path, sign: bool = False, **values: Any) -> None:
    raw = {**json.loads((path / MANIFEST).read_text()), **values}
    if sign:
        raw["manifest_digest"] = manifest_digest(raw)
    (path / MANIFEST).write_text(json.dumps(raw))


def data_file(path: Path) -> Path:
    return next(path.glob("*.arrow"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Any] = {
    "edited": lambda path: edit(path, rows_out=10**6),
    "not JSON": lambda path: (path / MANIFEST).write_text("{"),
    "no manifest": lambda path: (path / MANIFEST).unlink(),
    "another's": lambda path: edit(path, sign=True, fingerprint="f" * 64),
    "of another form": lambda path: edit(path, sign=True, rows_out="many"),
    "a changed file": lambda path: flip(data_file(path)),
    "a shorter file": lambda path: data_file(path).write_bytes(b"x"),
    "a missing file": lambda path: data_file(path).unlink(),
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("which", ["clean", "answers", "test"])
def test_nothing_of_a_damaged_artifact_is_quoted(distilled: Any, how: str, which: str) -> None:
    path = distilled[which].path
    DAMAGE[how](path)
    with pytest.raises(WorkspaceError) as refused:
        read_lineage(distilled["student"].path)
    said = str(refused.value)
    assert said.startswith(f"{path} is damaged (")
    assert "run the pipeline again" in said
    assert "delete that folder" in said
    shutil.rmtree(path)  # as the message says
    assert read_lineage(distilled["student"].path).missing == (f"{path.name} (removed)",)
    (path.parent / ".pruned" / path.name).mkdir(parents=True)
    assert read_lineage(distilled["student"].path).missing == (f"{path.name} (pruned)",)


def test_a_large_file_upstream_is_compared_by_size(made: Any) -> None:
    base = made.artifact("base", "train_sft", files={"model.safetensors": BIG})
    top = made.artifact("top", "train_sft", files={"a.json": b"{}"}, inputs={"base": base})
    flip(base.path / "model.safetensors")
    assert read_lineage(top.path).missing == ()
    (base.path / "model.safetensors").write_bytes(BIG[1:])
    with pytest.raises(WorkspaceError, match=r"model\.safetensors has 1048576 bytes"):
        read_lineage(top.path)


def test_what_was_made_again_with_another_content_is_not_quoted(made: Any) -> None:
    """As `--force` does: the folder's name is the same, its figures are others."""
    first = made.artifact("answers", "generate", rows=[{"id": "a", "x": "1"}])
    top = made.artifact("top", "train_sft", files={"a.json": b"{}"}, inputs={"answers": first})
    address, digest = first.path.name, first.manifest.fingerprint
    work = made.workspace.work_dir("again")
    shutil.copytree(first.path, work)
    (work / MANIFEST).unlink()
    flip(data_file(work))
    said = first.manifest.model_dump(exclude={"content_digest", "files", "created"})
    made.workspace.publish(address, work, {**said, "fingerprint": digest})
    found = read_lineage(top.path)
    assert list(found.manifests) == [top.path.name]
    assert found.missing == (f"{address} (made again since, with another content)",)
