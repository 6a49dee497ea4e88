"""select_similar: neighbours by a real model's embeddings, and models that are refused."""

from __future__ import annotations

import builtins
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_distill.errors import ConfigError, DataError, ModelError
from llm_distill.models.embeddings import embed
from llm_distill.stages.select_similar import SelectSimilar

Run = Callable[..., Any]
MODEL = "data/models/tiny-teacher"

HARD = [
    {
        "id": "v1",
        "task": "s",
        "question": "Sam has 4 spoons and Ann has 8 spoons. How many in all?",
    },
    {"id": "v2", "task": "s", "question": "Ann has 9 keys and loses 3 of them. How many are left?"},
]
TRAIN = [
    {"id": f"t{i}", "task": "s", "question": text}
    for i, text in enumerate(
        f"{name} has {n} {thing} and {rest}"
        for n, name in enumerate(("Sam", "Ann", "Paul"), start=3)
        for thing, rest in (
            ("spoons", "Mia has 3 spoons. How many in all?"),
            ("keys", "loses 2 of them. How many are left?"),
            ("boxes", "each holds 6 eggs. How many eggs are there?"),
        )
    )
] + [{"id": "o1", "task": "other", "question": HARD[0]["question"] + " And now?"}]


def stage(**settings: Any) -> SelectSimilar:
    settings.setdefault("model", MODEL)
    return SelectSimilar(stage="select_similar", rows="train", questions="hard", **settings)


def test_the_most_similar_of_the_task(run_stage: Run) -> None:
    """Against cosines of the embeddings, worked out pair by pair."""
    run = run_stage(stage(draws=3), {"train": TRAIN, "hard": HARD})
    own = [row for row in TRAIN if row["task"] == "s"]
    vectors = embed(MODEL, None, [row["question"] for row in [*HARD, *own]]).astype(float)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for index, query in enumerate(HARD):
        cosines = [float(vectors[index] @ vector) for vector in vectors[2:]]
        best = sorted(range(len(own)), key=lambda i: -cosines[i])[:3]
        found = {row["source_id"] for row in run.rows if row["id"].startswith(query["id"])}
        assert found == {own[i]["id"] for i in best}
    assert "o1" not in {row["source_id"] for row in run.rows}
    assert run.metrics["pairs"] == len(run.rows) == 6
    assert -1 <= run.metrics["mean_cosine"] <= 1
    assert stage().output_columns({"train": frozenset(TRAIN[0])}) == set(run.rows[0])
    mixed = run_stage(stage(draws=3, n=4), {"train": TRAIN[::-1], "hard": HARD[::-1]})
    same = run_stage(stage(draws=3, n=4), {"train": TRAIN, "hard": HARD})
    assert {row["id"] for row in mixed.rows} == {row["id"] for row in same.rows}
    assert len(same.rows) == 4


def test_what_cannot_be_selected(run_stage: Run) -> None:
    assert run_stage(stage(), {"train": TRAIN, "hard": []}).rows == []
    with pytest.raises(DataError, match="row v1 of 'train' has the id"):
        run_stage(stage(), {"train": [*TRAIN, HARD[0]], "hard": HARD})
    with pytest.raises(DataError, match="'train' has no question of task 's', as 'hard' has"):
        run_stage(stage(), {"train": TRAIN[-1:], "hard": HARD})
    run = run_stage(stage(draws=1, n=9), {"train": TRAIN, "hard": HARD})
    assert "2 pairs of a difficult question and a similar one, but n is 9" in run.warnings[0]


def test_the_model_is_a_part_of_the_fingerprint(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    local = stage(model=str(copy))
    before = local.source_digests()
    assert "model.safetensors" in before
    assert local.hub_models() == []
    (copy / "config.json").write_text("{}")
    assert local.source_digests() != before
    named = stage(model="someone/model", revision="v2")
    assert named.source_digests() == {"someone/model": "v2"}
    assert named.hub_models() == [("someone/model", "v2")]


def test_models_that_are_refused(tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(MODEL, copy)
    (copy / "2_Dense").mkdir()
    (copy / "2_Dense" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match="2_Dense/pytorch_model.bin is a pickle"):
        embed(str(copy), None, ["x"])
    with pytest.raises(ModelError, match="embedding model 'someone/none' is not a directory, and"):
        embed("someone/none", None, ["x"])
    shutil.rmtree(copy / "2_Dense")
    (copy / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=f"embedding model '{copy}': "):
        embed(str(copy), None, ["x"])


def test_a_missing_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def missing(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("sentence_transformers"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError, match=r"pip install 'llm-distill\[similar\]'"):
        embed(MODEL, None, ["x"])
