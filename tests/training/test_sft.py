"""Supervised fine-tuning end to end on a tiny model."""

from __future__ import annotations

import json
import logging
import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from llm_distill.errors import DataError, ModelError
from llm_distill.models.sources import load_model, load_tokenizer
from llm_distill.stages.train_sft import TrainSft
from llm_distill.training.encoder import pair_encoder

OVERFIT = {
    "learning_rate": 1e-2,
    "max_steps": 70,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "per_device_train_batch_size": 8,
}


def stage(**settings):
    return TrainSft(stage="train_sft", model="m", rows="r", **settings)


@pytest.mark.parametrize("kind", ["text_model", "chat_model", "pad_is_eos_model"])
def test_it_learns_rows_by_heart_and_stops(kind, request, run_stage, rows, ask, trained):
    source = request.getfixturevalue(kind)
    run = run_stage(stage(**OVERFIT), {"r": rows}, models={"m": source})
    answers = ask(trained(run.model, source), [row["prompt"] for row in rows])
    assert answers == [(row["completion"], "stop") for row in rows]
    assert run.model.base is None
    history = run.metrics["history"]
    assert history[0]["step"] == 1
    assert history[-1]["step"] == run.metrics["steps"] == 70
    assert history[0]["loss"] > 4
    assert history[-1]["loss"] < 0.05
    assert run.metrics["n_rows"] == 8
    json.dumps(run.metrics, allow_nan=False)


def test_the_loss_is_that_of_the_completions_tokens(run_stage, rows, text_model):
    """Against the cross entropy of the first batch, computed row by row."""
    run = run_stage(stage(max_steps=1), {"r": rows}, models={"m": text_model})
    encoder, model = pair_encoder(text_model, 256), load_model(text_model)
    total, count = 0.0, 0
    for row in rows:
        head, tail = encoder.encode(row["prompt"], row["completion"])
        with torch.no_grad():
            logits = model(torch.tensor([head + tail])).logits[0]
        logprobs = logits.log_softmax(-1)[len(head) - 1 : -1]
        total -= logprobs[range(len(tail)), tail].sum().item()
        count += len(tail)
    assert run.metrics["train_loss"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("can", [True, False])
def test_bfloat16_on_a_cpu_that_has_it(can, run_stage, rows, text_model, weights, monkeypatch):
    """The loss is near float32's, and what is saved stays float32."""
    runs = {}
    for bf16 in (False, True):
        monkeypatch.setattr("llm_distill.training.settings.has_bfloat16", lambda: can)
        runs[bf16] = run_stage(stage(max_steps=2, bf16=bf16), {"r": rows}, models={"m": text_model})
    exact, half = runs[False].metrics["train_loss"], runs[True].metrics["train_loss"]
    assert half == pytest.approx(exact, rel=1e-2)
    assert (half != exact) == can
    assert any("bf16 is left off: this CPU" in text for text in runs[True].warnings) == (not can)
    assert {t.dtype for t in weights(runs[True].model.directory).values()} == {torch.float32}


def test_accumulation_does_not_change_the_result(run_stage, rows, text_model, weights, tmp_path):
    """One batch of 8 against 8 of 1, on rows of very different lengths."""
    rows[0]["completion"] *= 5
    found = []
    for size, times in ((8, 1), (1, 8)):
        settings = {"per_device_train_batch_size": size, "gradient_accumulation_steps": times}
        run = run_stage(
            stage(learning_rate=1e-3, num_train_epochs=3, logging_steps=1, **settings),
            {"r": rows},
            models={"m": text_model},
            work_dir=tmp_path / str(size),
        )
        found.append(([p["loss"] for p in run.metrics["history"]], weights(run.model.directory)))
    (losses, one), (accumulated, other) = found
    assert len(losses) == 3
    assert losses == pytest.approx(accumulated, rel=1e-4)
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-3, atol=2e-4)


def test_the_history_does_not_hang_on_how_often_it_is_written(run_stage, rows, text_model):
    losses = []
    for steps in (1, 4):
        run = run_stage(
            stage(max_steps=7, logging_steps=steps, per_device_train_batch_size=4),
            {"r": rows},
            models={"m": text_model},
        )
        losses.append(run.metrics["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_a_full_model_is_safetensors_and_knows_no_path(run_stage, rows, text_model, tmp_path):
    run = run_stage(stage(max_steps=2, save_steps=1), {"r": rows}, models={"m": text_model})
    names = {path.name for path in run.model.directory.iterdir()}
    assert names == {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }
    for name in names - {"model.safetensors"}:
        assert str(tmp_path.parent) not in (run.model.directory / name).read_text()


def test_configs_and_tokenizer_stay_as_they_were(run_stage, rows, pad_is_eos_model):
    run = run_stage(stage(max_steps=1), {"r": rows}, models={"m": pad_is_eos_model})
    for name in ("config.json", "tokenizer_config.json"):
        before = json.loads(open(f"{pad_is_eos_model.path}/{name}").read())  # noqa: PTH123, SIM115
        after = json.loads((run.model.directory / name).read_text())
        assert after.get("pad_token_id") is None
        assert "pad_token" not in after
        assert after.get("eos_token_id") == before.get("eos_token_id")
        assert after.get("eos_token") == before.get("eos_token")
        assert after.get("padding_side", "right") == "right"


def test_an_adapter_is_saved_as_one_and_loads_to_the_same(
    run_stage, rows, text_model, ask, trained, weights, tmp_path
):
    settings = {**OVERFIT, "learning_rate": 5e-3, "peft": {"r": 32, "lora_alpha": 64}}
    run = run_stage(stage(**settings), {"r": rows}, models={"m": text_model})
    assert run.model.base == text_model
    config = json.loads((run.model.directory / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "tiny"
    assert (config["r"], config["lora_alpha"]) == (32, 64)
    assert not list(run.model.directory.glob("model*.safetensors"))
    assert all("lora" in name for name in weights(run.model.directory))
    n = sum(tensor.numel() for tensor in weights(run.model.directory).values())
    assert run.metrics["trainable_parameters"] == n
    assert str(tmp_path.parent) not in (run.model.directory / "adapter_config.json").read_text()
    answers = ask(trained(run.model, text_model), [row["prompt"] for row in rows])
    assert answers == [(row["completion"], "stop") for row in rows]


@pytest.mark.parametrize("is_tied", [True, False])
def test_an_adapter_can_have_embeddings_of_its_own(
    is_tied, run_stage, rows, text_model, trained, weights, tmp_path
):
    model = load_model(text_model)
    if is_tied:
        model.config.tie_word_embeddings = True
        model.tie_weights()
    model.save_pretrained(tmp_path / "base")
    load_tokenizer(text_model).save_pretrained(tmp_path / "base")
    base = replace(text_model, path=str(tmp_path / "base"))
    peft = {"r": 4, "train_embeddings": True}
    run = run_stage(
        stage(max_steps=3, learning_rate=1e-2, peft=peft), {"r": rows}, models={"m": base}
    )
    whole = {name for name in weights(run.model.directory) if "lora" not in name}
    assert {name.rpartition("model.")[2] for name in whole} == {
        "embed_tokens.weight",
        "lm_head.weight",
    }
    before, after = load_model(base), load_model(trained(run.model, base))
    for name in ("get_input_embeddings", "get_output_embeddings"):
        old, new = (getattr(each, name)().weight for each in (before, after))
        assert not torch.equal(old, new)
    is_one = after.get_output_embeddings().weight is after.get_input_embeddings().weight
    assert is_one == is_tied
    # What is loaded is what was trained: it goes on where the loss was.
    again = run_stage(
        stage(max_steps=1, learning_rate=1e-9, logging_steps=1),
        {"r": rows},
        models={"m": trained(run.model, base)},
        work_dir=tmp_path / "again",
    )
    assert again.metrics["history"][0]["loss"] < 0.95 * run.metrics["history"][0]["loss"]


def test_an_adapter_on_an_adapter_starts_from_both(run_stage, rows, text_model, trained, tmp_path):
    lora = {"peft": {"r": 8}, "learning_rate": 2e-2, "logging_steps": 1}
    first = run_stage(stage(max_steps=20, **lora), {"r": rows}, models={"m": text_model})
    source = trained(first.model, text_model)
    second = run_stage(
        stage(max_steps=2, **lora), {"r": rows}, models={"m": source}, work_dir=tmp_path / "second"
    )
    last = first.metrics["history"][-1]["loss"]
    assert second.metrics["history"][0]["loss"] == pytest.approx(last, rel=0.35)
    assert second.model.base == source
    assert len(trained(second.model, source).adapters) == 2


def test_a_template_makes_the_prompt(run_stage, text_model, tmp_path, monkeypatch):
    (tmp_path / "prompts").mkdir()
    template = "{{ task_description }}{% for e in examples %}X{% endfor %} {{ question }}\nAnswer:"
    (tmp_path / "prompts" / "exam.jinja").write_text(template + "\n")
    monkeypatch.chdir(tmp_path)
    rows = [
        {"id": "a", "task": "s", "question": "How old is Ann?", "rationale": "Ann is 21."},
        {"id": "b", "task": "t", "question": "How old is Bob?", "rationale": None},
        {"id": "c", "task": "t", "question": None, "rationale": "Ann is 21."},
    ]
    made = stage(
        max_steps=1,
        prompt_template="exam.jinja",
        completion_column="rationale",
        variables={"task_description": "Tell."},
    )
    run = run_stage(made, {"r": rows}, models={"m": text_model})
    assert run.dropped == {"empty completion": 1, "empty prompt": 1}
    head, tail = pair_encoder(text_model, 99).encode("Tell. How old is Ann?\nAnswer:", "Ann is 21.")
    assert run.metrics["n_tokens"] == len(head) + len(tail)
    assert made.required_columns() == {"r": {"id", "rationale"}}
    offered = made.template_variables({"r": frozenset({"question"})})
    assert offered == {"exam.jinja": {"question", "task_description", "examples"}}


def test_rows_that_are_left_out_are_counted(run_stage, rows, text_model):
    rows[0]["completion"] = "x" * 200
    rows[1]["completion"] = ""
    run = run_stage(stage(max_steps=1, max_length=60), {"r": rows}, models={"m": text_model})
    assert run.dropped == {"longer than max_length": 1, "empty completion": 1}
    assert run.metrics["n_rows"] == 6


def test_no_rows_left_says_why(run_stage, rows, text_model):
    with pytest.raises(DataError, match="'r' can be trained on: 8 longer than max_length"):
        run_stage(stage(max_length=4), {"r": rows}, models={"m": text_model})


def test_a_loss_that_is_no_number_says_at_which_step(run_stage, rows, text_model, monkeypatch):
    from llm_distill.training.sft import TokenSFTTrainer

    original = TokenSFTTrainer.compute_loss

    def broken(self, *args, **kwargs):
        loss = original(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step == 2 else loss

    monkeypatch.setattr(TokenSFTTrainer, "compute_loss", broken)
    with pytest.raises(ModelError, match=r"nan at step 3; lower learning_rate"):
        run_stage(stage(num_train_epochs=5), {"r": rows}, models={"m": text_model})


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_too_little_memory_says_what_to_lower(run_stage, rows, text_model, monkeypatch, error):
    from llm_distill.training.sft import TokenSFTTrainer

    def full(*_, **__):
        raise error

    monkeypatch.setattr(TokenSFTTrainer, "compute_loss", full)
    with pytest.raises(ModelError, match="lower per_device_train_batch_size"):
        run_stage(stage(), {"r": rows}, models={"m": text_model})


def test_other_failures_stay_what_they_are(run_stage, rows, text_model, monkeypatch):
    from llm_distill.training.sft import TokenSFTTrainer

    def fail(*_, **__):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(TokenSFTTrainer, "compute_loss", fail)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        run_stage(stage(), {"r": rows}, models={"m": text_model})


def test_target_modules_that_are_not_there_are_named(run_stage, rows, text_model):
    with pytest.raises(ModelError, match="q_projj"):
        run_stage(
            stage(peft={"target_modules": ["q_projj"]}), {"r": rows}, models={"m": text_model}
        )


@pytest.mark.parametrize("modules", ["lm_head", ["q_proj", "lm_head"]])
def test_the_output_layer_gets_no_adapter(modules):
    with pytest.raises(ValidationError, match=r"no adapter on lm_head: .*allowed: all-linear"):
        stage(peft={"target_modules": modules})


def test_a_pattern_that_matches_the_output_layer_is_named(run_stage, rows, text_model):
    with pytest.raises(ModelError, match="an adapter on lm_head, the output layer"):
        run_stage(stage(peft={"target_modules": ".*head"}), {"r": rows}, models={"m": text_model})


def test_its_curves_are_what_its_history_is(run_stage, rows, text_model, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    told = stage(report_to="tensorboard", max_steps=3, logging_steps=1)
    run = run_stage(told, {"r": rows}, models={"m": text_model})
    tracked = run.context.tracked
    (file,) = (tracked.folder / "tensorboard" / tracked.name).glob("events.*")
    read = EventAccumulator(str(file))
    read.Reload()
    losses = [(point.step, point.value) for point in read.Scalars("train/loss")]
    history = [(point["step"], pytest.approx(point["loss"])) for point in run.metrics["history"]]
    assert losses == history


def test_half_precision_weights_are_trained_in_float32(run_stage, rows, text_model, tmp_path):
    from dataclasses import replace

    load_model(text_model).bfloat16().save_pretrained(tmp_path / "half")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "half" / name).write_bytes(
            (type(tmp_path)(text_model.path) / name).read_bytes()
        )
    source = replace(text_model, path=str(tmp_path / "half"))
    assert load_model(source).dtype == torch.bfloat16
    for dtype in ("auto", "bfloat16"):
        told = replace(source, dtype=dtype)
        run = run_stage(stage(max_steps=2), {"r": rows}, models={"m": told})
        found = load_model(replace(text_model, path=str(run.model.directory)))
        assert found.dtype == torch.float32


def test_the_same_seed_gives_the_same_weights(run_stage, rows, text_model, weights, tmp_path):
    found = [
        weights(
            run_stage(
                stage(max_steps=3, per_device_train_batch_size=2),
                {"r": rows},
                models={"m": text_model},
                seed=seed,
                work_dir=tmp_path / name,
            ).model.directory
        )
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert not all(torch.equal(found[0][name], found[2][name]) for name in found[0])


def test_libraries_do_not_write_on_the_terminal(run_stage, rows, text_model, capfd):
    logging.getLogger("transformers").setLevel(logging.WARNING)
    run_stage(
        stage(max_steps=3, logging_steps=1, save_steps=1), {"r": rows}, models={"m": text_model}
    )
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


def test_the_bar_counts_steps_and_tokens(run_stage, rows, text_model, monkeypatch):
    from contextlib import nullcontext

    from llm_distill.runtime.context import StageContext

    seen: list[tuple[int, int]] = []
    totals: list[int | None] = []

    class Bar:
        def advance(
            self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
        ) -> None:
            seen.append((n, tokens))

    def progress(self, description, total=None, unit="rows", done=0):
        totals.append((total, unit, done))
        return nullcontext(Bar())

    monkeypatch.setattr(StageContext, "progress", progress)
    run = run_stage(
        stage(num_train_epochs=2, per_device_train_batch_size=3),
        {"r": rows},
        models={"m": text_model},
    )
    assert totals == [(6, "steps", 0)]
    assert [n for n, _ in seen] == [1] * 6
    assert sum(tokens for _, tokens in seen) == 2 * run.metrics["n_tokens"]


def test_a_conversation_of_one_answer_is_the_pair(run_stage, rows, chat_model, tmp_path):
    def turns(row):
        asked = {"role": "user", "content": row["prompt"]}
        return {
            "id": row["id"],
            "messages": [asked, {"role": "assistant", "content": row["completion"]}],
        }

    losses = []
    for name, given, more in (
        ("pairs", rows, {}),
        ("talks", [turns(row) for row in rows], {"messages_column": "messages"}),
    ):
        settings = stage(max_steps=3, logging_steps=1, **more)
        run = run_stage(settings, {"r": given}, models={"m": chat_model}, work_dir=tmp_path / name)
        losses.append([point["loss"] for point in run.metrics["history"]])
    assert losses[0] == losses[1]


def test_thoughts_beside_a_completion_are_trained_on_demand(
    run_stage, rows, chat_model, trained, ask, tmp_path
):
    given = [{**row, "reasoning": "I know it."} for row in rows]
    for column, begins in ((None, "Ann"), ("reasoning", "<think>")):
        settings = stage(max_steps=60, learning_rate=1e-2, reasoning_column=column)
        work = tmp_path / str(column)
        run = run_stage(settings, {"r": given}, models={"m": chat_model}, work_dir=work)
        ((text, _),) = ask(trained(run.model, chat_model), [rows[0]["prompt"]])
        assert text.startswith(begins)


def test_too_many_changed_rows_end_the_run(run_stage, rows, chat_model):
    talks = [
        {"id": row["id"], "messages": [{"role": "user", "content": row["prompt"]}, {
            "role": "assistant", "content": "", "tool_calls":
            '[{"function": {"name": "f", "arguments": {"a": 1}}}]'}]}
        for row in rows
    ]  # fmt: skip
    with pytest.raises(DataError, match="8 of 8 rows of 'r', the first of them 'r0', would not be"):
        run_stage(stage(messages_column="messages"), {"r": talks}, models={"m": chat_model})
