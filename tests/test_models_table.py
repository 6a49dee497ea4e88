"""The script that writes docs/models.md, on one architecture."""

from __future__ import annotations

import pytest

from llm_distill.errors import ModelError
from scripts import models_table
from tests.tiny_tokenizer import on_one_thread

one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


def test_an_architecture_that_works_has_a_mark_in_every_column() -> None:
    assert models_table.cells("llama") == ["✓"] * len(models_table.COLUMNS)


def test_a_cell_tells_what_is_refused_from_what_differs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: models_table.Case) -> str:
        raise ModelError("not this one")

    def differ(self: models_table.Case) -> str:
        models_table.close(1.0, 2.0, "loss")
        return "✓"

    monkeypatch.setattr(models_table, "COLUMNS", ("sft", "dpo"))
    monkeypatch.setattr(models_table.Case, "sft", refuse)
    monkeypatch.setattr(models_table.Case, "dpo", differ)
    assert models_table.cells("gpt2") == ["refused", "✗"]
    assert "gpt2, dpo: AssertionError: loss: 1.00000 in place of 2.00000" in capsys.readouterr().out
