"""evaluate_lm_eval with the harness itself: a user's own tasks, the bundled student, no network."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.errors import ConfigError, DataError, ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from llm_distill.paths import bundled_root
from llm_distill.prompts import load_template
from llm_distill.stages import evaluate_lm_eval
from llm_distill.stages.evaluate_lm_eval import EvaluateLmEval
from tests.engines.conftest import save_model, save_tokenizer

Run = Callable[..., Any]

STUDENT = ModelSource(
    "student", str(bundled_root() / "data/models/tiny-student"), prompt_format="text"
)
TEACHER = bundled_root() / "data/models/tiny-teacher"
N = 24
ASKED = {"task_description": "Solve the word problem.", "examples": []}
TASK = """
dataset_path: json
dataset_kwargs: {data_files: {test: FOLDER/items.jsonl}}
test_split: test
doc_to_text: asked
"""
WRITING = """task: sums_written
output_type: generate_until
doc_to_target: reference_answer
generation_kwargs: {until: ["\\nQuestion:", "Question:"], do_sample: false, max_gen_toks: 48}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
filter_list:
  - name: first
    filter:
      - {function: regex, regex_pattern: "<ans>\\\\s*(.*?)\\\\s*</ans>"}
      - {function: take_first}
metadata: {version: 2.0}
"""
CHOOSING = """task: sums_chosen
tag: sums
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    lines = (bundled_root() / "data/word_problems/test.jsonl").read_text().splitlines()[:N]
    rows = [json.loads(line) for line in lines]
    answers = sorted({row["reference_answer"] for row in rows})
    with (tasks / "items.jsonl").open("w") as file:
        for index, row in enumerate(rows):
            asked = load_template("arte/exam.jinja").render({**ASKED, "question": row["question"]})
            right = row["reference_answer"]
            others = [answer for answer in answers if answer != right][index % 3 :]
            offered = [right, *others[:2]]
            gold = index % 3
            offered[0], offered[gold] = offered[gold], offered[0]
            choices = [f"<ans> {answer} </ans>" for answer in offered]
            item = {"asked": asked, "choices": choices, "gold": gold, "reference_answer": right}
            file.write(json.dumps(item) + "\n")
    for name, text in (("written", WRITING), ("chosen", CHOOSING)):
        (tasks / f"{name}.yaml").write_text(text + TASK.replace("FOLDER", str(tasks)))
    return tasks


def stage(folder: Path | None = None, **settings: Any) -> EvaluateLmEval:
    defaults = {
        "stage": "evaluate_lm_eval",
        "models": ["student"],
        "tasks": ["sums_chosen"],
        "include_path": None if folder is None else str(folder),
        "device": "cpu",
    }
    return EvaluateLmEval(**{**defaults, **settings})


def items(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]


def log_likelihoods(source: ModelSource, item: dict[str, Any]) -> list[float]:
    """Of each choice after the prompt, one forward pass each, from the definition."""
    import torch

    model: Any = load_model(source)
    tokenizer: Any = load_tokenizer(source)
    found = []
    for choice in item["choices"]:
        prompt = tokenizer(item["asked"])["input_ids"]
        whole = tokenizer(f"{item['asked']} {choice}")["input_ids"]
        assert whole[: len(prompt)] == prompt
        with torch.inference_mode():
            logprobs = model(torch.tensor([whole])).logits[0].double().log_softmax(-1)
        places = range(len(prompt), len(whole))
        found.append(sum(float(logprobs[place - 1, whole[place]]) for place in places))
    return found


@pytest.fixture
def adapted(tmp_path: Path) -> ModelSource:
    """The student under an adapter that changes what it says."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(load_model(STUDENT), config).save_pretrained(tmp_path / "adapter")
    return replace(STUDENT, name="adapted", adapters=(str(tmp_path / "adapter"),))


@pytest.mark.slow
def test_multiple_choice_is_what_the_likelihoods_say(
    run_stage: Run, folder: Path, adapted: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = folder.parent / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    models = {"student": STUDENT, "adapted": adapted}
    run = run_stage(stage(folder, models=["student", "adapted"]), models=models)
    assert len(run.rows) == 2 * N
    rows = {row["id"]: row for row in run.rows}
    for name, source in models.items():
        for index, item in enumerate(items(folder)[:6]):
            row = rows[f"sums_chosen-{index}-{name}"]
            found = log_likelihoods(source, item)
            best = found.index(max(found))
            total = sum(math.exp(value - max(found)) for value in found)
            expected = [math.exp(value - max(found)) / total for value in found]
            assert row["probabilities"] == pytest.approx(expected, abs=1e-4)
            assert row["answer"] == item["choices"][best]
            assert row["reference_answer"] == item["choices"][item["gold"]]
            assert row["is_correct"] == (best == item["gold"])
            assert (row["prompt"], row["choices"]) == (item["asked"], item["choices"])
    base, other = (rows[f"sums_chosen-0-{name}"]["probabilities"] for name in models)
    assert base != pytest.approx(other, abs=1e-3)
    for result, name in zip(run.metrics["results"], models, strict=True):
        right = [row["is_correct"] for row in run.rows if row["model"] == name]
        share = sum(right) / N
        assert (result["model"], result["task"], result["metric"]) == (name, "sums_chosen", "acc")
        assert result["value"] == pytest.approx(share)
        assert result["n"] == N
        assert result["stderr"] == pytest.approx(math.sqrt(share * (1 - share) / (N - 1)))
        assert result["low"] < share < result["high"]
    assert not any(empty.iterdir())
    assert not run.warnings


@pytest.mark.slow
def test_written_answers_are_those_of_the_engine_of_pipelines(run_stage: Run, folder: Path) -> None:
    from llm_distill.engines.base import Request, SamplingSettings
    from llm_distill.engines.transformers.engine import TransformersEngine
    from llm_distill.engines.transformers.settings import TransformersSettings
    from llm_distill.methods.answers import extract_answer

    run = run_stage(
        stage(folder, tasks=["sums_written", "sums"], limit=16), models={"student": STUDENT}
    )
    rows = [row for row in run.rows if row["task"] == "sums_written"]
    assert len(rows) == 16
    greedy = SamplingSettings(temperature=0, max_tokens=48, stop=("\nQuestion:", "Question:"))
    engine = TransformersEngine(STUDENT, TransformersSettings(device="cpu"))
    requests = [Request(row["id"], row["prompt"], greedy) for row in rows]
    texts = {answer.id: answer.text for answer in engine.generate(requests)}
    for row, item in zip(rows, items(folder), strict=False):
        assert row["prompt"] == item["asked"]
        assert row["completion"].strip() == texts[row["id"]].strip()
        assert row["answer"] == extract_answer(texts[row["id"]])
        assert row["is_correct"] == (row["answer"] == item["reference_answer"])
        assert (row["filter"], row["parent_id"]) == ("first", row["id"][: -len("-student-first")])
    written, chosen = run.metrics["results"]
    right = sum(row["is_correct"] for row in rows)
    assert 0 < right < 16
    assert (written["metric"], written["filter"], written["n"]) == ("exact_match", "first", 16)
    assert written["value"] == pytest.approx(right / 16)
    assert (chosen["task"], chosen["n"]) == ("sums_chosen", 16)
    assert run.metrics["versions"]["sums_written"] == 2.0


@pytest.mark.exhaustive
@pytest.mark.slow
def test_settings_are_those_of_lm_eval(run_stage: Run, folder: Path) -> None:
    """The same figures and prompts as its own entry point gives, with worked examples as a chat."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    (folder / "both.yaml").write_text(
        "group: both\ntask: [sums_written, sums_chosen]\n"
        "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    source = replace(STUDENT, prompt_format="chat")
    settings = {
        "num_fewshot": 1,
        "limit": 5,
        "gen_kwargs": {"max_gen_toks": 8},
        "system_instruction": "Be brief.",
    }
    run = run_stage(stage(folder, tasks=["both"], **settings), models={"student": source})
    theirs = lm_eval.simple_evaluate(
        HFLM(pretrained=load_model(source), tokenizer=load_tokenizer(source), batch_size=2),
        tasks=["both"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        apply_chat_template=True,
        **settings,
    )
    for result in run.metrics["results"]:
        known = theirs["results"][result["task"]]
        key = f"{result['metric']},{result['filter']}"
        assert result["value"] == pytest.approx(known[key])
        assert result["n"] == (10 if result["task"] == "both" else 5)
    assert [result["task"] for result in run.metrics["results"]][-1] == "both"
    for task, samples in theirs["samples"].items():
        ours = [row for row in run.rows if row["task"] == task]
        assert [row["prompt"] for row in ours] == [s["arguments"][0][0] for s in samples]
        assert {row["shots"] for row in ours} == {1}
        if task == "sums_written":
            assert [row["completion"] for row in ours] == [s["resps"][0][0] for s in samples]
    assert run.rows[0]["prompt"].startswith("<|user|>Be brief.")
    assert run.rows[0]["prompt"].endswith("<|assistant|>")


@pytest.mark.slow
def test_what_is_asked_for_and_is_not_there_is_said_before_a_model_is_loaded(
    run_stage: Run, folder: Path
) -> None:
    models = {"student": ModelSource("student", str(folder / "no model"))}
    with pytest.raises(ConfigError, match="no task 'sums_choosen'; did you mean 'sums_chosen'"):
        run_stage(stage(folder, tasks=["sums_choosen"]), models=models)
    (folder / "far.yaml").write_text(
        "task: far\ndataset_path: nobody/nothing\n"
        + CHOOSING.partition("\n")[2]
        + "test_split: t\n"
    )
    with pytest.raises(DataError, match=r"task 'far' or its data .*HF_HUB_OFFLINE is set"):
        run_stage(stage(folder, tasks=["far"]), models=models)
    (folder / "chosen.yaml").write_text(
        CHOOSING + "unsafe_code: true\n" + TASK.replace("FOLDER", str(folder))
    )
    with pytest.raises(DataError, match="'sums_chosen' runs code that the model writes"):
        run_stage(stage(folder), models=models)
    (folder / "chosen.yaml").write_text(CHOOSING + TASK.replace("FOLDER", str(folder / "gone")))
    with pytest.raises(DataError, match=r"task 'sums_chosen' or its data .*gone"):
        run_stage(stage(folder), models=models)


def test_data_outside_the_folder_is_a_warning(run_stage: Run, folder: Path, tmp_path: Path) -> None:
    from llm_distill.evaluation.lm_eval_tasks import files_outside

    outside = tmp_path / "outside.jsonl"
    outside.write_text("{}")

    class Task:
        def __init__(self, path: str, *files: Path) -> None:
            named = {"data_files": {"test": [str(file) for file in files]}}
            self._config = {"dataset_path": path, "dataset_kwargs": named}

        def get_config(self, key: str) -> Any:
            return self._config[key]

    tasks = {"tasks": {"a": Task("json", folder / "items.jsonl", outside)}, "groups": {}}
    assert list(files_outside(tasks, folder)) == [("a", str(outside))]
    assert len(list(files_outside(tasks, None))) == 2
    more = {"b": Task("json", tmp_path / "out*.jsonl"), "c": Task(str(tmp_path))}
    found = list(files_outside({"tasks": more, "groups": {}}, folder))
    assert found == [("b", str(tmp_path / "out*.jsonl")), ("c", str(tmp_path))]


@pytest.mark.slow
def test_items_that_were_trained_on_are_counted(run_stage: Run, folder: Path) -> None:
    asked = [item["asked"] for item in items(folder)]
    seen = [{"id": "a", "prompt": asked[2]}, {"id": "b", "prompt": "What else?"}]
    settings = {"limit": 2, "contamination": {"fail": True}}
    told = {"models": {"student": STUDENT}, "training": {"student": ["seen"]}}
    with pytest.raises(DataError, match=r"found in 'seen'.*: sums_chosen-2; put a decontaminate"):
        run_stage(stage(folder, **settings), {"seen": seen}, **told)
    run = run_stage(stage(folder, **settings), {"seen": seen[1:]}, **told)
    assert run.metrics["contamination"]["rows"] == {"seen": 0}
    assert run.metrics["contamination"]["n_items"] == N


QWEN3 = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
OPENS = QWEN3.replace("{% endif %}{% endif %}", "{% else %}<think>\n{% endif %}{% endif %}")
WRITTEN = [  # what the model writes for each item; the answer is read from what is right of the tag
    "Draft: <ans> 1 </ans>\nQuestion: is it?</think>\n\nIt is <ans> 2 </ans>\nQuestion: <ans>",
    "Draft: <ans> 1 </ans> and so on",
    "<ans> 3 </ans></think><ans> 4 </ans>",
]


@pytest.fixture
def thinks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A tiny model that writes given texts by heart, and the prompts that it was given."""
    import torch

    def run(template: str, texts: list[str]) -> tuple[ModelSource, list[str]]:
        path = tmp_path / "thinks"
        tokenizer = save_tokenizer(path)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(path)
        save_model(path, len(tokenizer), max_position_embeddings=1024)
        end, prompts = [tokenizer.eos_token_id], []

        def generate(input_ids: Any, max_length: int, stopping_criteria: Any, **_: Any) -> Any:
            ids = input_ids
            read = tokenizer.batch_decode(ids)
            prompts.extend(text.replace("<pad>", "") for text in read)
            said = [texts[next(i for i in range(N) if f"item {i}" in text)] for text in read]
            rows = [tokenizer(t, add_special_tokens=False)["input_ids"] + end for t in said]
            for place in range(max_length - ids.shape[1]):
                column = [row[place] if place < len(row) else 0 for row in rows]
                ids = torch.cat([ids, torch.tensor(column)[:, None]], dim=1)
                if stopping_criteria(ids, None).all():
                    break
            return ids

        def loaded(*given: Any, **options: Any) -> Any:
            model: Any = load_model(*given, **options)
            model.generate = generate
            return model

        monkeypatch.setattr(evaluate_lm_eval, "load_model", loaded)
        return ModelSource("student", str(path)), prompts

    return run


def ask_three(folder: Path, asked: str = "item {i}") -> None:
    rows = [
        {"asked": asked.format(i=i), "choices": ["a"], "gold": 0, "reference_answer": str(i)}
        for i in (0, 1, 2)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("template", [QWEN3, OPENS])
def test_thoughts_are_cut_before_the_answer_is_read(
    run_stage: Run, folder: Path, thinks: Any, template: str, batch_size: int
) -> None:
    ask_three(folder)
    opened = "<think>\n" if template is OPENS else ""
    source, prompts = thinks(template, [("" if opened else "<think>") + w for w in WRITTEN])
    settings = {"tasks": ["sums_written"], "gen_kwargs": {"max_gen_toks": 200}}
    run = run_stage(
        stage(folder, enable_thinking=True, batch_size=batch_size, **settings),
        models={"student": source},
    )
    assert sorted(prompts) == [f"<s><|user|>item {i}<|assistant|>{opened}" for i in range(3)]
    completions = [row["completion"] for row in run.rows]
    assert completions == ["It is <ans> 2 </ans>", "", "<ans> 4 </ans>"]
    assert [row["answer"] for row in run.rows] == ["2", None, "4"]


@pytest.mark.slow
@pytest.mark.parametrize("enable_thinking", [False, None])
def test_a_template_is_told_not_to_think(
    run_stage: Run, folder: Path, thinks: Any, enable_thinking: bool | None
) -> None:
    ask_three(folder)
    source, prompts = thinks(QWEN3, ["<ans> 1 </ans>"] * 3)
    run = run_stage(
        stage(folder, tasks=["sums_written"], enable_thinking=enable_thinking),
        models={"student": source},
    )
    closed = "<think>\n\n</think>\n\n" if enable_thinking is False else ""
    assert sorted(prompts) == [f"<s><|user|>item {i}<|assistant|>{closed}" for i in range(3)]
    assert [row["answer"] for row in run.rows] == ["1"] * 3


@pytest.mark.slow
def test_likelihoods_of_a_model_that_thinks_are_refused(
    run_stage: Run, folder: Path, thinks: Any
) -> None:
    source, _ = thinks(QWEN3, [])
    with pytest.raises(DataError, match="enable_thinking=True is not compatible with loglik"):
        run_stage(stage(folder, enable_thinking=True), models={"student": source})


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sums_written", "sums_chosen"])
def test_a_token_without_a_row_is_said(
    run_stage: Run, folder: Path, tmp_path: Path, task: str
) -> None:
    ask_three(folder, "<tool> item {i}")
    tokenizer = save_tokenizer(tmp_path / "model")
    save_model(tmp_path / "model", len(tokenizer), max_position_embeddings=1024)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(tmp_path / "model")
    source = ModelSource("student", str(tmp_path / "model"), prompt_format="text")
    with pytest.raises(ModelError, match=r"'student': token \d+ of a prompt is not among the"):
        run_stage(stage(folder, tasks=[task]), models={"student": source})


def test_without_the_package(run_stage: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'llm-distill\[eval\]'"):
        run_stage(stage(), models={"student": STUDENT})


def test_a_change_to_a_file_of_a_task_changes_what_identifies_it(folder: Path) -> None:
    before = stage(folder).source_digests()
    assert before["lm-eval"] == "0.4.13"
    assert {"items.jsonl", "chosen.yaml"} < set(before)
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "utils.pyc").write_text("")
    assert stage(folder).source_digests() == before
    (folder / "items.jsonl").write_text("{}")
    assert stage(folder).source_digests() != before


@pytest.mark.parametrize(
    "settings",
    [{"models": []}, {"tasks": []}, {"tasks": ["a", "a"]}, {"include_path": "no/folder"},
     {"limit": 0}, {"batch_size": "large"}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage(**settings)


@pytest.mark.slow
def test_its_rows_are_an_exam_that_a_gate_reads(run_stage: Run, folder: Path) -> None:
    """Each task by itself, over the same items."""
    from llm_distill.stages.gate import Gate

    teacher = replace(STUDENT, name="teacher", path=str(TEACHER), prompt_format="text")
    tasks = ["sums_written", "sums_chosen"]
    exam = run_stage(
        stage(folder, models=["student", "teacher"], tasks=tasks, num_fewshot=0),
        models={"student": STUDENT, "teacher": teacher},
    )
    gate = Gate(stage="gate", exams=["harness"], model="teacher", than="student")
    rows = {row["exam"]: row for row in run_stage(gate, {"harness": exam.rows}).rows}
    assert rows.keys() == {"harness/sums_written (first)", "harness/sums_chosen"}
    for name, row in rows.items():
        task = name.removeprefix("harness/").removesuffix(" (first)")
        assert row["n_items"] == N
        for model, found in (("teacher", "accuracy"), ("student", "than_accuracy")):
            marks = [r["is_correct"] for r in exam.rows if (r["model"], r["task"]) == (model, task)]
            assert row[found] == pytest.approx(sum(marks) / N)
