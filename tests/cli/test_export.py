"""A finished run's model as others load it, and nothing half written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from llm_distill.cli import exporting
from llm_distill.publish import export

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    monkeypatch.setattr(exporting, "quiet_libraries", lambda: None)


def test_merged_is_a_model_of_its_own_that_answers_alike(at_run, tmp_path):
    out = tmp_path / "new" / "tuned"
    said = at_run("export", "made", "tuned", "--to", "merged", "--out", out)
    assert said.code == 0, said.err
    names = {file.name for file in out.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "generation_config.json"} < names
    assert not {"adapter_config.json", "manifest.json"} & names
    note = json.loads((out / "export.json").read_text())
    assert note["compared"]["same_first"] == 1.0
    assert note["compared"]["largest"] < 1e-3
    assert note["compared"]["tokens"] > 50
    assert [each.name for each in out.parent.iterdir()] == ["tuned"]
    made = Path(at_run("path", "made", "tuned").out.strip())
    for folder in (out, made):
        modes = {file.stat().st_mode for file in folder.glob("*.safetensors")}
        assert modes == {(folder / "tokenizer.json").stat().st_mode}

    again = at_run("export", "made", "spoken", "--to", "merged", "--out", out)
    assert (again.code, "add --force" in again.err) == (5, True)
    half = ("--dtype", "bfloat16", "--force")
    said = at_run("export", "made", "spoken", "--to", "merged", "--out", out, *half)
    assert said.code == 0, said.err
    assert json.loads((out / "config.json").read_text())["dtype"] == "bfloat16"
    assert (out / "chat_template.jinja").is_file()
    assert 0 < json.loads((out / "export.json").read_text())["compared"]["largest"] < 1
    assert [each.name for each in out.parent.iterdir()] == ["tuned"]


def test_the_student_is_exported_unless_another_is_named(at_run, tmp_path, monkeypatch, finished):
    monkeypatch.chdir(tmp_path)
    said = at_run("export", "made", "--to", "merged", "--workspace", finished)
    assert said.code == 0, said.err
    assert "tuned (the last trained model that exam 'exam' names)" in said.out
    assert str(tmp_path / "made-tuned-merged") in said.out
    assert json.loads((tmp_path / "made-tuned-merged/export.json").read_text())["stage"] == "tuned"


def test_a_path_of_no_stage_names_the_stages(at_run):
    said = at_run("path", "made")
    assert (said.code, said.out) == (2, "")
    assert "It has items, answers, said, tuned, spoken, again, exam" in said.err


def test_a_merge_that_is_not_the_model_leaves_nothing(at_run, tmp_path, monkeypatch):
    merged = export.merge_adapters

    def spoilt(source, folder, dtype):
        merged(source, folder, dtype)
        weights = load_file(folder / "model.safetensors")
        name = next(name for name in weights if "q_proj" in name)
        weights[name] = weights[name] * 1.5
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    monkeypatch.setattr(export, "merge_adapters", spoilt)
    said = at_run("export", "made", "tuned", "--to", "merged", "--out", tmp_path / "tuned")
    assert (said.code, "is not the one that it was made from" in said.err) == (4, True)
    assert list(tmp_path.iterdir()) == []


CONVERTER = """\
import sys
from pathlib import Path
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
assert given["--outtype"] == "f16"
if "broken" in sys.argv[0]:
    sys.exit("NotImplementedError: BPE pre-tokenizer was not recognized")
assert (Path(sys.argv[1]) / "model.safetensors").is_file()
Path(given["--outfile"]).write_bytes(b"GGUF")
"""


def test_gguf_is_llama_cpps_work_and_what_it_says_is_said(at_run, tmp_path, monkeypatch):
    to = ("export", "made", "tuned", "--to", "gguf", "--out", tmp_path / "out")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert "pip install 'llm-distill[gguf]'" in at_run(*to).err
    assert "pip install 'llm-distill[compress]'" in at_run(*to[:4], "fp8", *to[5:]).err
    monkeypatch.setattr(export, "find_spec", lambda name: True)
    monkeypatch.setenv("PATH", str(tmp_path))
    said = at_run(*to)
    assert said.code == 2
    assert "git clone --depth 1 https://github.com/ggml-org/llama.cpp" in said.err
    for name in ("broken", "works"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "convert_hf_to_gguf.py").write_text(CONVERTER)
    said = at_run(*to, "--llama-cpp", tmp_path / "broken")
    assert said.code == 4
    assert "BPE pre-tokenizer was not recognized" in said.err
    assert "it has no convert_hf_to_gguf.py" in at_run(*to, "--llama-cpp", tmp_path).err
    said = at_run(*to, "--llama-cpp", tmp_path / "works")  # four letters are no model
    assert (said.code, "cannot be loaded again" in said.err) == (4, True)
    assert not (tmp_path / "out").exists()
    assert sys.executable in export.check_installed("gguf", tmp_path / "works")[0]


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("writer", "--to", "merged"), 2, "no weights to export"),
        (("items", "--to", "merged"), 2, "gives rows, not a model"),
        (("tuned", "--to", "gguf", "--dtype", "float16"), 2, "--dtype goes with --to merged"),
    ],
)
def test_what_cannot_be_exported_is_one_message(at_run, tmp_path, arguments, code, says):
    said = at_run("export", "made", *arguments, "--out", tmp_path / "out")
    assert (said.code, says in said.err) == (code, True), said.err
    assert list(tmp_path.iterdir()) == []


def test_only_an_earlier_export_is_replaced(at_run, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    given = ("--to", "merged", "--out", tmp_path / "mine", "--force")
    said = at_run("export", "made", "tuned", *given)
    assert (said.code, "is not an export (no export.json)" in said.err) == (5, True)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear"
