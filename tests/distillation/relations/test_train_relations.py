"""Relations as a training: by the model's own parts, what it reaches, the same in any cut."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from llm_distill.distillation.relations.objective import objective_of, train_what_is_reached
from llm_distill.errors import ConfigError, ModelError
from llm_distill.models.backbones import load_whole
from llm_distill.models.sources import ModelSource, load_model
from llm_distill.stages.train_relations import TrainRelations
from llm_distill.training.classifier import collate
from tests.distillation.cuts import cut_after
from tests.distillation.relations.small_models import saved, texts

Run = Callable[..., Any]
SETTINGS: dict[str, Any] = {
    "stage": "train_relations",
    "model": "m",
    "teacher": "t",
    "rows": "r",
    "learning_rate": 3e-3,
    "max_steps": 6,
    "per_device_train_batch_size": 10,
    "logging_steps": 1,
}
MINILM = {"attention_relation": 1.0, "value_relation": 1.0}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSource]:
    folder = tmp_path_factory.mktemp("models")
    return lambda kind, **more: saved(folder, kind, **more)


def stage(**settings: Any) -> TrainRelations:
    return TrainRelations(**{**SETTINGS, **settings})


def trained(
    run_stage: Run,
    student: ModelSource,
    teacher: ModelSource,
    rows: list[Any] | None = None,
    at: Path | None = None,
    **settings: Any,
) -> Any:
    given = {"r": texts(25) if rows is None else rows}
    return run_stage(stage(**settings), given, models={"m": student, "t": teacher}, work_dir=at)


def weights_of(run: Any) -> dict[str, torch.Tensor]:
    return load_file(run.model.directory / "model.safetensors")


def losses(run: Any) -> list[float]:
    return [point["loss"] for point in run.metrics["history"] if "loss" in point]


def by_hand(
    sides: list[tuple[torch.Tensor, torch.Tensor, int]], seen: torch.Tensor
) -> torch.Tensor:
    """Σ KL over rows, a mean over heads, of one text. sides: X, Y [T, W] and heads."""
    of_heads = []
    for x, y, n_heads in sides:
        pairs = zip(x.chunk(n_heads, -1), y.chunk(n_heads, -1), strict=True)
        scores = [a @ b.T / a.shape[-1] ** 0.5 for a, b in pairs]
        of_heads.append([s.masked_fill(~seen, -1e9).softmax(-1) for s in scores])
    apart = [
        torch.nn.functional.kl_div((q + 1e-30).log(), p, reduction="sum")
        for p, q in zip(*of_heads, strict=True)
    ]
    return torch.stack(apart).mean()


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_loss_is_that_of_the_models_own_parts(
    models: Callable[..., ModelSource], kind: str
) -> None:
    """The first layer of a deeper teacher, and the second of the student; texts of two lengths."""
    teacher = load_whole(models(kind, seed=2, width=48, layers=3)).base_model
    student = load_whole(models(kind)).base_model
    heads = {"query": 4, "key": 2, "value": 2}
    settings = stage(teacher_layer=1, student_layer=-1, relation_heads=heads)
    objective = objective_of(settings, teacher, student, ("t", "m"))
    assert (objective.at_teacher.layer, objective.at_student.layer) == (1, 2)
    rows = [{"input_ids": [5, 6, 7, 8]}, {"input_ids": [9, 10]}]
    with torch.no_grad():
        found = objective.sums(student, collate(rows, 0))
    is_llama = kind == "llama"

    def parts(model: Any, layer: int, ids: list[int]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            states = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[layer - 1]
            if is_llama:
                own = model.layers[layer - 1]
                attention, states = own.self_attn, own.input_layernorm(states)
                named = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
            else:
                attention = model.encoder.layer[layer - 1].attention.self
                named = {name: name for name in heads}
            return {part: getattr(attention, name)(states)[0] for part, name in named.items()}

    for part, n_heads in heads.items():
        total = torch.zeros(())
        for row in rows:
            ids = row["input_ids"]
            seen = torch.ones(len(ids), len(ids)).bool()
            sides = [parts(teacher, 1, ids)[part], parts(student, 2, ids)[part]]
            allowed = seen.tril() if is_llama else seen
            total += by_hand([(x, x, n_heads) for x in sides], allowed)
        assert found[f"{part}_relation"].item() == pytest.approx(total.item(), rel=1e-3)
        assert total > 1e-3


@pytest.mark.parametrize(
    ("student", "teacher"), [("bert", "bert"), ("distilbert", "bert"), ("llama", "llama")]
)
def test_it_learns_from_a_wider_and_deeper_teacher(
    run_stage: Run, models: Callable[..., ModelSource], student: str, teacher: str
) -> None:
    source = models(student)
    above = models(teacher, seed=2, width=48, layers=3)
    rows = [*texts(25), {"id": "x", "text": None}, {"id": "y", "text": " "}]
    own = {"relation_heads": 2, "eval_rows": "e", "eval_steps": 30, "weight_decay": 0.1}
    run = run_stage(
        stage(max_steps=30, **own),
        {"r": rows, "e": texts(10, seed=3)},
        models={"m": source, "t": above},
    )
    assert run.dropped == {"no text": 2}
    held = [point["eval_loss"] for point in run.metrics["history"] if "eval_loss" in point]
    assert held[-1] < 0.8 * held[0]
    last = run.metrics["history"][-1]
    named = [f"eval_{part}_relation" for part in ("query", "key", "value")]
    assert sum(last[name] for name in named) == pytest.approx(held[-1], rel=1e-4)
    before, after = load_file(Path(source.path) / "model.safetensors"), weights_of(run)
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    still = before.keys() - moved
    assert any("layers.1" in name or "layer.1" in name for name in moved)
    assert any("layers.0.mlp" in name or "layer.0." in name for name in moved)
    after_it = {"bert": "layer.1.output", "distilbert": "layer.1.ffn", "llama": "layers.1.mlp"}
    ends = [name for name in before if after_it[student] in name]
    assert ends
    assert still.issuperset(ends)
    assert run.metrics["untrained_parameters"] >= sum(before[name].numel() for name in ends)
    assert [said for said in run.warnings if "before it is asked" in said] == run.warnings
    assert len(run.warnings) == (student == "llama")
    if student == "llama":
        trained_model = ModelSource("m", str(run.model.directory), prompt_format="text")
        assert load_model(trained_model).config.architectures == ["LlamaForCausalLM"]
        assert "model.norm.weight" in still


def test_gradients_end_at_the_projections(models: Callable[..., ModelSource]) -> None:
    student = load_whole(models("llama")).base_model
    above = load_whole(models("llama", seed=2)).base_model
    own = stage(losses={"value_relation": 1.0}, student_layer=1)
    objective = objective_of(own, above, student, ("t", "m"))
    left = train_what_is_reached(student.requires_grad_(True), objective)
    named = {name for name, p in student.named_parameters() if p.requires_grad}
    assert named == {
        "embed_tokens.weight",
        "layers.0.input_layernorm.weight",
        "layers.0.self_attn.v_proj.weight",
    }
    assert left == sum(p.numel() for p in student.parameters() if not p.requires_grad)
    sum(objective.sums(student, collate([{"input_ids": [4, 5, 6]}], 0)).values()).backward()  # type: ignore[union-attr]
    for name, parameter in student.named_parameters():
        has = parameter.grad is not None and bool(parameter.grad.abs().sum() > 0)
        assert has == (name in named), name
    assert all(p.grad is None for p in above.parameters())


@pytest.mark.parametrize("kind", ["bert", "opt"])
def test_minilms_attention(run_stage: Run, models: Callable[..., ModelSource], kind: str) -> None:
    """The rows by which the layer attends; the widths differ, the heads may not."""
    teacher, student = models(kind, seed=2, width=48), models(kind)
    run = trained(run_stage, student, teacher, losses=MINILM, max_steps=20)
    found = losses(run)
    assert found[-1] < found[0]
    fewer = models(kind, heads=2)
    with pytest.raises(ModelError, match="'t' has 4, 'm' 2; take query_relation"):
        trained(run_stage, fewer, _named_t(teacher), losses=MINILM)


def test_attention_that_is_not_that_of_the_projections_is_refused(
    run_stage: Run, models: Callable[..., ModelSource]
) -> None:
    with pytest.raises(ModelError, match="attends in another way \\(rotary positions"):
        trained(run_stage, models("llama"), models("llama", seed=2), losses=MINILM)


def _named_t(source: ModelSource) -> ModelSource:
    return ModelSource("t", source.path, prompt_format="text")


@pytest.mark.parametrize(("kind", "size"), [("bert", 2), ("llama", 5)])
def test_a_step_is_the_same_however_it_is_cut(
    run_stage: Run, models: Callable[..., ModelSource], kind: str, size: int, tmp_path: Path
) -> None:
    """Texts have different lengths, and the last step of an epoch has fewer."""
    teacher, student = models(kind, seed=2), models(kind)
    whole, cut = (
        trained(
            run_stage,
            student,
            teacher,
            at=tmp_path / str(n),
            train_batch_size=10,
            per_device_train_batch_size=n,
        )
        for n in (10, size)
    )
    assert losses(whole) == pytest.approx(losses(cut), abs=1e-5)
    after = weights_of(cut)
    for name, weight in weights_of(whole).items():
        assert torch.allclose(weight, after[name], atol=1e-4), name


def test_checkpointing_of_activations_changes_nothing(
    run_stage: Run, models: Callable[..., ModelSource], tmp_path: Path
) -> None:
    teacher, student = models("llama", seed=2), models("llama")
    plain, saving = (
        trained(
            run_stage,
            student,
            teacher,
            at=tmp_path / str(on),
            max_steps=3,
            gradient_checkpointing=on,
        )
        for on in (False, True)
    )
    after = weights_of(saving)
    for name, weight in weights_of(plain).items():
        assert torch.allclose(weight, after[name], atol=1e-5), name


def test_in_bfloat16_relations_are_compared_in_full(models: Callable[..., ModelSource]) -> None:
    student = load_whole(models("bert")).base_model
    above = load_whole(models("bert", seed=2)).base_model
    objective = objective_of(stage(), above, student, ("t", "m"))
    batch = collate([{"input_ids": [4, 5, 6, 7]}], 0)
    with torch.no_grad():
        exact = objective.sums(student, batch)
        with torch.autocast("cpu", torch.bfloat16):
            found = objective.sums(student, batch)
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(exact[name].item(), rel=0.1)


def test_a_training_that_was_cut_off_goes_on(
    run_stage: Run,
    models: Callable[..., ModelSource],
    tmp_path: Path,
) -> None:
    given = models("llama"), models("llama", seed=2)
    whole = weights_of(trained(run_stage, *given, at=tmp_path / "whole", save_steps=2))
    with cut_after(5):
        trained(run_stage, *given, at=tmp_path / "cut", save_steps=2)
    run = trained(run_stage, *given, at=tmp_path / "cut", save_steps=2)
    assert run.metrics["resumed_from_step"] == 4
    for name, weight in weights_of(run).items():
        assert torch.equal(weight, whole[name]), name


@pytest.mark.parametrize(
    ("student", "teacher", "settings", "says"),
    [
        (
            {},
            {},
            {"student_layer": 3},
            "student_layer: 3, but model 'm' has 2 layers; allowed: 1 to 2",
        ),
        ({}, {}, {"teacher_layer": -3}, "teacher_layer: -3, but model"),
        (
            {},
            {},
            {"relation_heads": 5},
            "relation_heads: 5 does not divide the 32 columns .* 1, 2, 4",
        ),
        ({"width": 18, "heads": 6}, {}, {}, "own heads, as relation_heads does not say"),
        ({"texts_of_tokenizer": 40}, {}, {}, "tokenizers of 't' and 'm' differ: the teacher's has"),
        (
            {"kind": "gpt2"},
            {"kind": "gpt2"},
            {},
            "looked for linear layers with the names query, key",
        ),
        ({"kind": "llama"}, {}, {}, "'m' is a decoder, .* and 't' an encoder"),
    ],
)
def test_models_that_do_not_fit(
    run_stage: Run,
    models: Callable[..., ModelSource],
    student: dict[str, Any],
    teacher: dict[str, Any],
    settings: dict[str, Any],
    says: str,
) -> None:
    kinds = [side.get("kind", "bert") for side in (student, teacher)]
    sizes = [{k: v for k, v in side.items() if k != "kind"} for side in (student, teacher)]
    own, above = (models(kind, **size) for kind, size in zip(kinds, sizes, strict=True))
    with pytest.raises((ModelError, ConfigError), match=says):
        trained(run_stage, own, _named_t(above), texts(3), **settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"teacher_layer": 0}, "teacher_layer: there is no layer 0"),
        ({"peft": {}}, "peft: relations train a whole model"),
        ({"launch": {"strategy": "fsdp2"}}, "take ddp"),
        ({"on_collapse": "stop"}, "nothing that writes is trained"),
        ({"losses": {}}, "name one relation at least"),
        ({"relation_heads": {"queries": 4}}, "query"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", pytest.param("llama", marks=pytest.mark.exhaustive)])
def test_two_processes_train_what_one_does(
    models: Callable[..., ModelSource], tmp_path: Path, kind: str
) -> None:
    """Eleven rows, eight to a step: the second step of an epoch has three, for two to share."""
    from tests.training.test_ranks import train

    common = {"train_batch_size": 8, "per_device_train_batch_size": 4, "max_steps": 5}
    found = []
    for processes in (1, 2):
        made = stage(launch={"processes": processes}, **common)
        folder = tmp_path / str(processes)
        folder.mkdir()
        done = train(made, folder, texts(11), models(kind), models(kind, seed=2, width=48))
        points = [point["loss"] for point in done.manifest["metrics"]["history"]]
        found.append((points, load_file(done.directory / "model.safetensors")))
    (alone, whole), (others, shared) = found
    assert alone == pytest.approx(others, abs=1e-5)
    for name, weight in whole.items():
        assert torch.allclose(weight, shared[name], atol=1e-4), name
