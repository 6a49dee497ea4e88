"""What a model writes before and after its training, on tiny models that are really trained."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset

from llm_distill.errors import ModelError
from llm_distill.stages.train_distill import TrainDistill
from llm_distill.stages.train_dpo import TrainDpo
from llm_distill.stages.train_kto import TrainKto
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.before_after import some_prompts

FAST: dict[str, Any] = {
    "learning_rate": 1e-2,
    "max_steps": 70,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
}


def sft(**settings: Any) -> TrainSft:
    return TrainSft(stage="train_sft", model="m", rows="r", **{**FAST, **settings})


def test_the_samples_are_what_the_model_writes(run_stage, rows, text_model):
    run = run_stage(sft(), {"r": rows}, models={"m": text_model})
    before, after, its = run.metrics["writing"]
    assert [found["answers"] for found in (before, after, its)] == ["before", "after", "the rows'"]
    assert after["ended"] == its["ended"] == 1
    assert after["length"] == its["length"]
    shown = run.metrics["answered_prompts"]
    wanted = {row["prompt"]: row["completion"].strip() for row in rows}
    assert len(shown) == 3
    for sample in shown:
        assert sample["after"].strip() == wanted[sample["prompt"]]
        assert sample["before"].strip() != wanted[sample["prompt"]]


def test_prompts_are_those_of_held_out_rows(run_stage, rows, text_model):
    """Where there are enough of them for a conclusion."""
    held = [{**row, "prompt": f"{row['prompt']} Say."} for row in rows]
    for n, says in ((8, True), (7, False)):
        again = [{**held[i % len(held)], "id": str(i)} for i in range(n)]
        for i, row in enumerate(again):
            row["prompt"] += " Please." * (i // len(held))
        stage = sft(max_steps=1, eval_rows="e")
        run = run_stage(stage, {"r": rows, "e": again}, models={"m": text_model})
        asked = {sample["prompt"] for sample in run.metrics["answered_prompts"]}
        assert asked <= {row["prompt"] for row in (again if says else rows)}


def test_how_uncertain_a_token_was(text_model, rows):
    """The entropy of the whole distribution, up to the token that ends the answer."""
    import torch

    from llm_distill.models.sources import end_tokens, load_tokenizer
    from llm_distill.training.before_after import BeforeAfter
    from llm_distill.training.weights import load_start

    tokenizer = load_tokenizer(text_model)
    ids = [tokenizer(row["prompt"], add_special_tokens=False)["input_ids"] for row in rows]
    labelled = [{"input_ids": [*prompt, 5], "labels": [-100] * len(prompt) + [5]} for prompt in ids]
    asked = BeforeAfter(text_model, Dataset.from_list(labelled), None, 3)
    model = load_start(text_model).model.eval()
    asked.ask_before(model)
    each = []
    for (prompt, _), (answer, ended) in zip(asked.prompted, asked.before, strict=True):
        end = sorted(end_tokens(text_model, tokenizer))[:1] if ended else []
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *answer, *end]])).logits[0]
        logps = logits[len(prompt) - 1 : -1].log_softmax(-1)
        each.append(-(logps.exp() * logps).sum(-1).mean().item())
    assert asked.entropy_before == pytest.approx(sum(each) / len(each), abs=1e-4)


@pytest.mark.parametrize("peft", [None, {"r": 4}])
@pytest.mark.parametrize("kind", ["sft", "distill", "dpo", "kto"])
def test_every_training_is_asked(kind, peft, run_stage, rows, text_model):
    given: dict[str, Any] = {"stage": f"train_{kind}", "model": "m", "rows": "r", "max_steps": 2}
    stages: Any = {"sft": TrainSft, "distill": TrainDistill, "dpo": TrainDpo, "kto": TrainKto}
    more = {"distill": {"losses": {"sft": 1}}, "kto": {"label_column": "is_good"}}.get(kind, {})
    given |= {"peft": peft, **more}
    shown = [{**row, **pair, "is_good": True} for row, pair in zip(rows, pairs(rows), strict=True)]
    run = run_stage(stages[kind].model_validate(given), {"r": shown}, models={"m": text_model})
    assert [row["answers"] for row in run.metrics["writing"]] == ["before", "after", "the rows'"]


def test_a_models_own_config_does_not_hide_circles(run_stage, rows, model_dir, tmp_path):
    """A penalty for repeating would."""
    import json
    import shutil

    from llm_distill.models.sources import ModelSource

    found = []
    for penalty in (1.0, 50.0):
        path = tmp_path / f"model-{penalty}"
        shutil.copytree(model_dir, path)
        file = path / "generation_config.json"
        own = {"repetition_penalty": penalty, "num_return_sequences": 2, "num_beams": 2}
        file.write_text(json.dumps({**json.loads(file.read_text()), **own}))
        run = run_stage(
            sft(max_steps=1),
            {"r": rows},
            models={"m": ModelSource("m", str(path), prompt_format="text")},
            work_dir=tmp_path / f"run-{penalty}",
        )
        found.append(run.metrics["writing"])
    assert found[0] == found[1]


def test_it_does_not_change_the_weights(run_stage, rows, text_model, weights, tmp_path):
    found = []
    for what in ("stop", "ignore"):
        run = run_stage(
            sft(max_steps=3, on_collapse=what),
            {"r": rows},
            models={"m": text_model},
            work_dir=tmp_path / what,
        )
        found.append(weights(run.model.directory))
        assert ("writing" in run.metrics) == (what == "stop")
    assert all((found[0][name] == found[1][name]).all() for name in found[0])


@pytest.fixture
def fluent(run_stage, rows, text_model, trained, tmp_path):
    """A model that answers each prompt in its own words."""
    long = [
        {**row, "completion": f"{row['completion']} {row['prompt']} {row['completion']}"}
        for row in rows
    ]
    folder = tmp_path / "fluent"
    run = run_stage(sft(max_steps=100), {"r": long}, models={"m": text_model}, work_dir=folder)
    return long, trained(run.model, text_model)


def pairs(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Chosen and rejected differ in nothing that a good model needs."""
    return [
        {
            "id": row["id"],
            "prompt": row["prompt"],
            "chosen": row["completion"],
            "rejected": row["completion"][::-1],
        }
        for row in rows
    ]


def test_a_preference_training_that_breaks_the_model_says_so(run_stage, fluent):
    rows, model = fluent
    stage = TrainDpo(
        stage="train_dpo", model="m", rows="r", peft=None, beta=0.01, learning_rate=3e-2,
        max_steps=60, save_steps=50,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"has collapsed: it.*on_collapse: warn"):
        run_stage(stage, {"r": pairs(rows)}, models={"m": model})
    all_the_same = stage.model_copy(update={"on_collapse": "warn"})
    run = run_stage(all_the_same, {"r": pairs(rows)}, models={"m": model})
    assert run.metrics["resumed_from_step"] == 50
    assert any("has collapsed" in text for text in run.warnings)
    assert run.model.directory.is_dir()


def test_prompts_are_different_and_have_an_answer():
    rows = [{"prompt_ids": [i // 2], "chosen_ids": [7, i], "rejected_ids": [8]} for i in range(100)]
    found = some_prompts(Dataset.from_list(rows))
    assert len(found) == len({tuple(prompt) for prompt, _ in found}) == 16
    turns = {"input_ids": [1, 2, 3, 4, 5, 6], "labels": [-100, -100, 3, 4, -100, 6]}
    assert some_prompts(Dataset.from_list([turns])) == [([1, 2], [3, 4])]
    text = {"input_ids": [1, 2], "labels": [1, 2]}
    assert some_prompts(Dataset.from_list([text])) == []
    kto = [
        {"prompt_ids": [1], "completion_ids": [2], "label": False},
        {"prompt_ids": [3], "completion_ids": [4], "label": True},
    ]
    assert some_prompts(Dataset.from_list(kto)) == [([3], [4])]


def test_a_training_that_moved_nothing_is_told(run_stage, rows, text_model):
    run = run_stage(sft(learning_rate=1e-9), {"r": rows}, models={"m": text_model})
    [said] = run.warnings
    assert "the same answers as before, word for word, to 8 prompts of the rows" in said
    assert "Raise learning_rate" in said
    run = run_stage(sft(), {"r": rows}, models={"m": text_model})
    assert run.warnings == []
