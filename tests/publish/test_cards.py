"""Cards, read back by huggingface_hub's own parsers."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from llm_distill.errors import ModelError, WorkspaceError
from llm_distill.evaluation.results import Figure, FigureTable, shown
from llm_distill.manifest import ModelUsed
from llm_distill.publish.cards import recipe_text
from llm_distill.publish.dataset_card import dataset_card
from llm_distill.publish.model_card import model_card
from llm_distill.publish.package import package


def adapter_card(origin, license_id="mit", **identities):
    """identities: of models that the run did not have from the Hub."""
    made = origin("student")
    for manifest in made.lineage.manifests.values():
        for name in identities.keys() & manifest.models.keys():
            known = {"identity": identities[name]}
            manifest.models[name] = manifest.models[name].model_copy(update=known)
    return model_card(made, "me/toy", license_id, is_adapter=True)


def test_a_model_card_has_its_base_its_data_and_its_results(origin):
    data = ModelCard(adapter_card(origin).text).data
    assert data.base_model == "org/student"
    assert data.base_model_relation == "adapter"
    assert data.datasets == ["org/seeds"]  # not the exam, which was kept out; not the local file
    assert data.library_name == "peft"
    assert data.license == "mit"
    assert data.tags == ["llm-distill", "distillation", "sft"]
    after, before = data.eval_results
    assert (after.metric_value, before.metric_value) == (0.5, 0.25)
    assert after.metric_args == {"shots": 0, "low": 0.3, "high": 0.7, "n": 4}
    assert before.metric_args["low"] == 0.1
    assert "before training" in before.metric_name
    assert (after.dataset_type, after.dataset_split) == ("org/exam", "test")
    assert after.dataset_revision == "f" * 40


def test_a_model_cards_text(origin, distilled):
    text = adapter_card(origin).text
    assert (
        "| exam | 4 | 0 | 25.0% (10.0% to 40.0%) | 50.0% (30.0% to 70.0%) | +25.0 (-10.0 to" in text
    )
    assert f"| org/teacher | {'c' * 40} | answers | unknown |" in text
    assert f"| org/student (base) | {'d' * 40} | distilled | unknown |" in text
    for artifact in (distilled["student"], distilled["clean"], distilled["answers"]):
        assert f"`{artifact.manifest.fingerprint[:12]}`" in text
        assert f"`{artifact.manifest.content_digest[:12]}`" in text
    assert "overlaps test: 1" in text
    assert "learning_rate: 0.001" in text
    assert "llm-distill run pipeline.yaml" in text
    assert 'PeftModel.from_pretrained(model, "me/toy")' in text


def test_what_was_trained_of_conversations_is_said(origin):
    assert "of conversations" not in adapter_card(origin).text
    made = origin("student")
    made.lineage.manifest.settings.update(messages_column="messages", answers="last")
    text = model_card(made, "me/toy", "mit", is_adapter=True).text
    assert "the assistant's last turn of conversations, with the thoughts that they have;" in text
    made.lineage.manifest.settings.update(answers="all", thoughts="drop")
    text = model_card(made, "me/toy", "mit", is_adapter=True).text
    assert "trained the assistant's turns of conversations, without thoughts;" in text


def test_an_evaluation_of_something_else_is_a_warning(origin):
    made = origin("student")
    metrics = made.evaluations[0].manifest.metrics
    metrics["results"] = [row for row in metrics["results"] if row["model"] == "student"]
    card = model_card(made, "me/toy", "mit", is_adapter=True)
    assert "Not measured." in card.text
    assert any("'exam' has no accuracy of 'distilled'" in warning for warning in card.warnings)
    assert not any("exam" in warning for warning in adapter_card(origin).warnings)


def test_a_stages_own_figures_are_shown(origin):
    made = origin("student")
    made.lineage.manifest.metrics.update(shown(FigureTable("speed", (Figure({"on": "cpu"}, 7.5),))))
    exam = made.evaluations[0].manifest
    exam.metrics.clear()
    exam.metrics.update(shown(FigureTable("a | b", (Figure({"model": "[x]"}, 0.5, kind="share"),))))
    card = model_card(made, "me/toy", "mit", is_adapter=True)
    assert "### distilled: speed\n\n| on | value |\n" in card.text
    assert "| cpu | 7.5 |\n" in card.text
    assert "### exam: a \\| b\n" in card.text
    assert "| \\[x] | 50.0% |\n" in card.text
    assert not any("exam" in warning for warning in card.warnings)


def test_a_note_on_accuracies_stands_under_them(origin):
    made = origin("student")
    made.evaluations[0].manifest.metrics["notes"] = ["0.0% says little: [free] text"]
    card = model_card(made, "me/toy", "mit", is_adapter=True)
    before, _, after = card.text.partition("exam: 0.0% says little: \\[free] text")
    assert before.rstrip().endswith("|")
    assert after.strip()


def test_a_whole_model_names_another_library(origin):
    card = model_card(origin("student"), "me/toy", "mit", is_adapter=False)
    data = ModelCard(card.text).data
    assert (data.library_name, data.base_model_relation) == ("transformers", "finetune")
    assert 'AutoModelForCausalLM.from_pretrained("me/toy")' in card.text
    assert "peft" not in card.text


def test_a_dataset_card(origin, distilled):
    from datasets import load_from_disk

    rows = load_from_disk(str(distilled["clean"].path))
    card = dataset_card(origin("clean"), "me/rows", "cc-by-4.0", rows.features, len(rows))
    data = DatasetCard(card.text).data
    assert data.license == "cc-by-4.0"
    assert data.size_categories == ["n<1K"]
    assert "synthetic" in data.tags
    assert [f["name"] for f in data.dataset_info["features"]] == list(rows.features)
    assert data.configs[0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    assert "| `completion` | string | what the model answered |" in card.text
    assert "- `answers` by teacher: `{template: ask.jinja, sampling: {temperature: 0.7" in card.text
    assert "- `clean` (decontaminate): overlaps test: 1; 3 rows left" in card.text
    assert "`clean` removed 1 of 4 rows: those found in test, by 13 words in a row" in card.text


def test_nothing_of_this_machine_is_in_what_is_pushed(origin, tmp_path, monkeypatch, pipeline):
    monkeypatch.setenv("MY_PROJECT", "quite-a-secret-project")
    made = origin("student")
    settings = made.lineage.manifests[next(iter(made.lineage.manifests))].settings
    settings["task"] = "about quite-a-secret-project"
    pipeline["stages"]["seeds"]["task"] = "about quite-a-secret-project"
    packed = package(made, "me/toy", "mit", tmp_path / "rows")
    assert set(packed.files) == {
        "adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md",
        "pipeline.yaml",
    }  # fmt: skip
    for file in ("README.md", "pipeline.yaml"):
        text = bytes(packed.files[file]).decode()
        assert "/home/ann" not in text
        assert str(tmp_path) not in text
        assert "quite-a-secret-project" not in text
        assert "about ${MY_PROJECT}" in text
        assert os.environ["HOME"] not in text


def test_a_servers_address_and_local_paths_are_not_published(origin, pipeline):
    engine = {"kind": "openai", "base_url": "http://gpu7.corp:80/v1", "model": "/srv/x/llama"}
    pipeline["models"]["teacher"]["engine"] = engine
    made = origin("student")
    for manifest in made.lineage.manifests.values():
        if "teacher" in manifest.models:
            served = ModelUsed(path="/srv/x/llama", identity={"served": "llama"})
            manifest.models["teacher"] = served
    card = model_card(made, "me/toy", "mit", is_adapter=True)
    assert "| llama |  | answers | unknown |" in card.text
    recipe = recipe_text(made)
    assert yaml.safe_load(recipe)["models"]["teacher"]["engine"] == {
        "kind": "openai", "base_url": "http://localhost:8000/v1", "model": "llama",
    }  # fmt: skip
    for text in (card.text, recipe, *card.warnings):
        assert "/srv" not in text
        assert "gpu7" not in text


def test_the_recipe_has_what_made_it_and_its_exam_and_nothing_else(origin):
    values = yaml.safe_load(recipe_text(origin("student")))
    assert list(values["stages"]) == [
        "seeds", "test", "more", "answers", "clean", "distilled", "exam"
    ]  # fmt: skip
    assert list(values["models"]) == ["teacher", "student"]
    assert values["seed"] == 3
    assert values["stages"]["seeds"]["path"] == "seeds.jsonl"


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ("llama3", "forbid improving other language models"),
        ("llama3.1", "begins with Llama"),
        ("gemma", "derived from Gemma"),
        ("cc-by-nc-4.0", "exclude commercial use"),
        ("other\nlicense_name: qwen-research", "owner's own"),
    ],
)
def test_a_teachers_license_with_terms_on_outputs_is_a_warning(
    origin, pipeline, tmp_path, declared, says
):
    folder = tmp_path / "teacher"
    folder.mkdir()
    (folder / "README.md").write_text(f"---\nlicense: {declared}\n---\n# Teacher\n")
    pipeline["models"]["teacher"] = {"model_name_or_path": str(folder)}
    card = adapter_card(origin, teacher="0" * 64)
    warnings = [w for w in card.warnings if "org/teacher" in w]
    assert len(warnings) == 1
    assert says in warnings[0]
    assert says in card.text
    assert "Read its license before" in card.text


def test_an_unknown_license_is_a_warning_and_a_free_one_is_not(origin, pipeline, tmp_path):
    assert any("not known here" in warning for warning in adapter_card(origin).warnings)
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    pipeline["models"]["teacher"] = {"model_name_or_path": str(tmp_path)}
    assert adapter_card(origin, teacher="0" * 64).warnings == ()


def test_the_bases_license_is_taken_where_none_is_set(origin, pipeline, tmp_path):
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for model in pipeline["models"].values():
        model["model_name_or_path"] = str(tmp_path)
    card = adapter_card(origin, None, teacher="0" * 64, student="0" * 64)
    data = ModelCard(card.text).data
    assert data.license == "apache-2.0"
    assert "Its license is that of the model that it is based on" in card.text
    assert data.base_model is None  # a local directory is not a name on the Hub
    assert any("base is not on the Hub" in warning for warning in card.warnings)


def test_a_base_was_on_the_hub_if_the_run_had_it_from_there(origin, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    local = adapter_card(origin, student="0" * 64)  # its folder is gone by now
    assert ModelCard(local.text).data.base_model is None
    assert 'AutoModelForCausalLM.from_pretrained("org/student")  # not on the Hub' in local.text
    under_adapter = {"base": {"hub": "org/student", "revision": "main"}, "adapter": "1" * 64}
    (tmp_path / "org" / "student").mkdir(parents=True)  # a folder that happens to have the name
    for card in (adapter_card(origin), adapter_card(origin, student=under_adapter)):
        assert ModelCard(card.text).data.base_model == "org/student"


def test_a_missing_license_is_a_warning(origin):
    card = adapter_card(origin, None)
    assert ModelCard(card.text).data.license is None
    assert any("does not name a license" in warning for warning in card.warnings)


def test_an_adapter_on_what_another_stage_trained_is_not_pushed_alone(made, distilled, tmp_path):
    from llm_distill.publish.cards import Origin
    from llm_distill.publish.lineage import read_lineage
    from tests.publish.conftest import ADAPTER, STUDENT, WHOLE

    again = made.artifact(
        "aligned",
        "train_dpo",
        files=ADAPTER,
        inputs={"distilled": distilled["student"], "clean": distilled["clean"]},
        models={"distilled": STUDENT},
        settings={"model": "distilled", "rows": "clean"},
    )
    origin = Origin(read_lineage(again.path), (), {})
    assert origin.lineage.base.path == "org/student"
    with pytest.raises(ModelError, match="on top of what stage 'distilled' trained.*--merge"):
        package(origin, "me/toy", None, tmp_path / "rows")
    merged = tmp_path / "merged"
    merged.mkdir()
    for name, content in WHOLE.items():
        (merged / name).write_bytes(content)
    packed = package(origin, "me/toy", None, tmp_path / "rows", merged)
    assert packed.files["model.safetensors"] == merged / "model.safetensors"
    assert "by `train_sft`, then `train_dpo`." in packed.card
    shutil.rmtree(distilled["student"].path)  # its base's artifact is gone, and it still needs it
    with pytest.raises(ModelError, match="on top of what stage 'distilled' trained"):
        package(Origin(read_lineage(again.path), (), {}), "me/toy", None, tmp_path / "rows")


def test_files_that_can_run_code_are_not_pushed(made, tmp_path):
    from llm_distill.publish.cards import Origin
    from llm_distill.publish.lineage import read_lineage

    bad = made.artifact("bad", "train_own", files={"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(ModelError, match=r"can run code when loaded \(pytorch_model.bin\)"):
        package(Origin(read_lineage(bad.path), (), {}), "me/toy", None, tmp_path)


def test_only_what_the_stage_made_is_pushed(made, tmp_path):
    from llm_distill.publish.cards import Origin
    from llm_distill.publish.lineage import read_lineage

    files = {"model.safetensors": b"x", "config.json": b"{}"}
    model = made.artifact("m", "train_sft", files=files)
    (model.path / ".env").write_text("TOKEN=x")
    (model.path / "notes.txt").symlink_to("/etc/hostname")
    origin = Origin(read_lineage(model.path), (), {})
    packed = package(origin, "me/toy", "mit", tmp_path)
    assert sorted(packed.files) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "pipeline.yaml",
    ]
    (model.path / "config.json").unlink()
    (model.path / "config.json").symlink_to("/etc/hostname")
    with pytest.raises(WorkspaceError, match=r"config.json is a link"):
        package(origin, "me/toy", "mit", tmp_path)


def test_a_removed_artifact_upstream_is_mentioned(distilled, origin):
    shutil.rmtree(distilled["answers"].path)
    text = adapter_card(origin).text
    gone = f"no longer in the workspace: {distilled['answers'].path.name} (removed)."
    assert f"Could not be verified, because what was read is {gone}" in text


def test_a_datasets_files_are_the_same_bytes_each_time(origin, tmp_path):
    import pyarrow.parquet as pq

    first = package(origin("clean"), "me/rows", "mit", tmp_path / "a")
    second = package(origin("clean"), "me/rows", "mit", tmp_path / "b")
    name = "data/train-00000-of-00001.parquet"
    one, two = first.files[name], second.files[name]
    assert isinstance(one, Path)
    assert isinstance(two, Path)
    assert one.read_bytes() == two.read_bytes()
    assert pq.read_table(one).num_rows == 3
    assert first.files["README.md"] == second.files["README.md"]
