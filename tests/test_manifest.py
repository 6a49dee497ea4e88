"""A manifest's file and digest are pinned, because older artifacts must still be reused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.digests import fingerprint
from llm_distill.integrity import DamagedError
from llm_distill.manifest import (
    MANIFEST,
    InputRef,
    Manifest,
    ModelUsed,
    is_as_written,
    manifest_digest,
    raw_manifest,
    read_manifest,
)
from llm_distill.runtime.artifact import Workspace
from tests.manifests import manifest

GOLDEN = Path(__file__).parent / "golden" / MANIFEST  # written by a run before this was a type


def test_digest_is_over_all_but_itself_and_covers_unknown_fields() -> None:
    raw: dict[str, Any] = {"schema_version": 1, "stage": "é", "of_a_newer_version": [1]}
    digest = manifest_digest(raw)
    assert digest == fingerprint(raw)
    assert manifest_digest({**raw, "manifest_digest": digest}) == digest
    assert manifest_digest({**raw, "of_a_newer_version": [2]}) != digest


def test_a_real_manifest_is_written_as_it_was_read() -> None:
    raw = raw_manifest(GOLDEN.parent)
    assert raw is not None
    assert is_as_written(raw)
    said = Manifest.model_validate(raw)
    assert said.text() == GOLDEN.read_text(encoding="utf-8")
    added_since = {"failed", "paces", "tokens_by_model"}
    fields = [name for name in Manifest.model_fields if name not in added_since]
    assert [*fields, "manifest_digest"] == list(raw)
    failed = json.loads(said.model_copy(update={"failed": 2}).text())
    assert (failed["failed"], is_as_written(failed)) == (2, True)


def test_what_a_real_manifest_says() -> None:
    said = read_manifest(GOLDEN.parent)
    assert said is not None
    assert (said.name, said.stage, said.is_model) == ("missing", "find_missing_skills", False)
    digest = said.identity["inputs"]["answers"]
    assert said.inputs["answers"] == InputRef(
        artifact="answers-4d84fc3de5a3", content_digest=digest
    )
    assert said.models["teacher"].path == "tiny-stat-teacher"
    assert said.dropped == {"not difficult": 58, "judged correct": 34}


def test_keys_of_a_newer_version_are_ignored_and_those_of_an_older_one_have_defaults() -> None:
    least = manifest().model_dump(exclude_defaults=True)
    assert set(least) == {"name", "stage", "fingerprint", "content_digest", "files", "created"}
    said = Manifest.model_validate({**least, "of_a_newer_version": 1})
    assert (said.texts, said.cost, said.completions) == ((), 0.0, {})
    assert not hasattr(said, "of_a_newer_version")


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest(metrics={"loss": float("nan")}).text()


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("files", None, "files: Field required"),
        ("dropped", {"odd": "many"}, "dropped.odd: Input should be a valid integer"),
        ("inputs", {"numbers": {"artifact": "x-1"}}, "inputs.numbers.content_digest: Field"),
        ("models", ["teacher"], "models: Input should be a valid dictionary"),
    ],
)
def test_another_form_is_damage_though_its_digest_is_right(
    tmp_path: Path, field: str, value: Any, says: str
) -> None:
    raw = json.loads(manifest().text())
    raw[field] = value
    if value is None:
        del raw[field]
    raw["manifest_digest"] = manifest_digest(raw)
    workspace = Workspace(tmp_path)
    folder = workspace.path("made-" + "0" * 12)
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_text(json.dumps(raw))
    with pytest.raises(DamagedError, match=f"^{MANIFEST} has another form: {says}"):
        workspace.find(folder.name)
    assert read_manifest(folder) is None
    assert workspace.latest("made") is None


def test_what_is_published_is_what_is_found(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    workspace.prepare()
    work = workspace.work_dir("made")
    work.mkdir()
    (work / "model.safetensors").write_bytes(b"weights")
    said = manifest(models={"student": ModelUsed(path="org/student")}, metrics={"pair": (1, 2.5)})
    left_to_publish = {"content_digest", "files", "created"}
    fields = said.model_dump(exclude=left_to_publish)
    made = workspace.publish("made-" + "0" * 12, work, fields)
    found = workspace.find(made.path.name)
    assert found is not None
    assert found.manifest.text() == made.manifest.text()
    assert found.manifest.text() == (made.path / MANIFEST).read_text(encoding="utf-8")
    assert found.manifest.files["model.safetensors"].bytes == len(b"weights")


def test_a_manifest_is_not_changed_once_it_is_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest().rows_out = 3  # type: ignore[misc]
