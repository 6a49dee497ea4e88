"""What is interrupted while it is written or published is never taken for complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_distill.errors import DataError
from llm_distill.manifest import MANIFEST
from llm_distill.runtime import artifact
from llm_distill.runtime.execute import _leave_checkpoints
from llm_distill.runtime.writer import write_rows
from llm_distill.stage import RowsOutput

TOY = """\
name: toy
stages:
  numbers: {stage: toy_rows, n: 2}
"""


@pytest.mark.parametrize("step", ["file_digests", "fingerprint", "sync", "Artifact"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_stop_while_publishing(
    bench: Any, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
) -> None:
    toy = bench(TOY)

    def stop(*_: Any, **__: Any) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(artifact, step, stop)
        with pytest.raises(BaseException, match="is full" if isinstance(error, OSError) else None):
            toy.run()
    assert not list((toy.workspace.artifacts / ".work").iterdir())
    record = toy.run()
    # "Artifact" comes after the rename: only then the whole is there.
    assert toy.display.ran == ([] if step == "Artifact" else ["numbers"])
    assert len(toy.rows(record, "numbers")) == 2


def test_a_forced_rebuild_that_cannot_be_put_in_place_keeps_the_old_one(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = bench(TOY)
    toy.run()
    before = (toy.artifact("numbers") / MANIFEST).read_text()
    rename = Path.rename

    def interrupted(self: Path, target: Path) -> Path:
        if self.name == "artifact":
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", interrupted)
        with pytest.raises(KeyboardInterrupt):
            toy.run(force=("numbers",))
    assert (toy.artifact("numbers") / MANIFEST).read_text() == before
    toy.run()
    assert toy.display.ran == []


@pytest.mark.parametrize("text", ["NaN", '{"a": NaN}', '{"a": "\\ud800"}', "[]", "\xff"])
def test_a_manifest_that_is_no_manifest_is_damage(bench: Any, text: str) -> None:
    toy = bench(TOY)
    toy.run()
    (toy.artifact("numbers") / MANIFEST).write_text(text, encoding="latin-1")
    assert "is damaged" in toy.plan()["numbers"][1]


@pytest.mark.parametrize("checkpoints", [["checkpoint-2"], []])
def test_of_a_failed_stage_only_checkpoints_stay(tmp_path: Path, checkpoints: list[str]) -> None:
    work = tmp_path / "work"
    for folder in ("artifact", "checkpoints", *(f"checkpoints/{name}" for name in checkpoints)):
        (work / folder).mkdir(parents=True)
    (work / "rows.arrow").write_text("half")
    _leave_checkpoints(work)
    assert [path.name for path in work.rglob("*")] == (
        ["checkpoints", *checkpoints] if checkpoints else []
    )
    assert work.exists() == bool(checkpoints)


@pytest.mark.parametrize(
    "wrong", [{"text": "\ud800"}, {"number": 2**70}, {"number": float("inf")}, {"list": ["y"]}]
)
def test_a_value_that_does_not_fit_is_the_datas_fault(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    from datasets import Features, List, Value

    types = {"id": Value("string"), "text": Value("string"), "number": Value("int64")}
    features = Features({**types, "list": List(Value("float64"))})
    good = {"text": "x", "number": 1, "list": [1.0]}
    rows = [{"id": "a", **good}, {"id": "b", **good, **wrong}]
    with pytest.raises(DataError, match="row (b|at or before b): "):
        write_rows(RowsOutput(rows, features), tmp_path / "work" / "artifact")
