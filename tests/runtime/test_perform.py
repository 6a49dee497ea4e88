"""What is said of a stage when it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset

from llm_distill.runtime.context import StageInputs
from llm_distill.runtime.perform import perform
from llm_distill.stage import Context, ModelOutput
from llm_distill.tracking import TrackedRun
from tests.conftest import _NoBar


class Trains:
    """Reads ten rows and leaves some of them out."""

    def __init__(self, n_left_out: int) -> None:
        self.n_left_out = n_left_out

    def run(self, context: Context) -> ModelOutput:
        context.rows("rows")
        context.drop("no label", self.n_left_out)
        return ModelOutput(context.work_dir)


@pytest.mark.parametrize(("n_left_out", "is_said"), [(5, False), (6, True)])
def test_a_training_with_few_of_its_rows(n_left_out: int, is_said: bool, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    Dataset.from_list([{"id": str(n)} for n in range(10)]).save_to_disk(str(rows))
    inputs = StageInputs(
        seed=0,
        work_dir=tmp_path,
        store=tmp_path / "store.sqlite",
        tracked=TrackedRun("test", "test/now/stage", tmp_path / "tracking"),
        rows={"rows": rows},
    )
    stage: Any = Trains(n_left_out)
    warnings = perform(stage, inputs, lambda *_: _NoBar()).manifest["warnings"]
    assert len(warnings) == is_said
    if is_said:
        assert warnings[0].startswith("6 of 10 rows were left out (no label: 6)")
