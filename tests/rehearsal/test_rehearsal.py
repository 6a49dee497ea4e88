"""A file of a paper's size is walked with stand-ins, and what cannot be met is found."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from llm_distill.engines.base import Request, SamplingSettings, StructuredOutput
from llm_distill.errors import ConfigError
from llm_distill.methods.parsing import read_blocks, read_tag
from llm_distill.methods.subtasks import subtask_problem
from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rehearsal.answers import answer
from llm_distill.rehearsal.columns import needed_columns, value
from llm_distill.rehearsal.datasets import of_the_hub, rows_of
from llm_distill.rehearsal.questions import another_like, question, right_answer
from llm_distill.rehearsal.rehearsal import write_rehearsal
from llm_distill.stages.load_dataset import LoadDataset
from tests.cli.test_cli import llm_distill

PIPELINE = """
name: large
variables: {task_description: Solve it.}
models:
  teacher: {model_name_or_path: somebody/Teacher-70B, engine: {kind: vllm, tensor_parallel_size: 8}}
  student: {model_name_or_path: somebody/Student-2B, prompt_format: chat}
stages:
  rows:
    stage: load_dataset
    path: somebody/questions
    split: "train[10:70]"
    columns: {question: problem, reference_answer: answer}
  written:
    stage: generate
    rows: rows
    model: teacher
    template: arte/rationale.jinja
    parse: {tags: {answer: ans}, keep_text_as: rationale}
    verify: {drop_wrong: true}
  kept: {stage: select, rows: written, n: 30, strict: true}
  student_trained:
    stage: train_sft
    model: student
    rows: kept
    prompt_template: arte/exam.jinja
    completion_column: rationale
    per_device_train_batch_size: 1
    gradient_accumulation_steps: 16
    max_steps: 3
    bf16: true
    quantization: {bits: 4}
    peft: {r: 4}
    launch: {processes: 8, strategy: ddp}
  exam: {stage: evaluate, rows: rows, models: [student_trained], template: arte/exam.jinja}
  outside: {stage: evaluate_lm_eval, models: [student_trained], tasks: [piqa]}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "large.yaml"
    path.write_text(PIPELINE)
    return path


def rehearse(file: Path, *options: str) -> tuple[dict[str, dict[str, Any]], str, int]:
    """What became of each stage, all that was said, and the exit code."""
    done = llm_distill("rehearse", str(file), "--json", *options, cwd=file.parent)
    stages = json.loads(done.stdout)["stages"] if done.stdout else []
    return {stage["stage"]: stage for stage in stages}, done.stderr, done.returncode


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_large_file_is_walked_with_every_count_as_written(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    told = ("--rows", "somebody/questions=100", "--folder", str(folder))
    table, said, code = rehearse(file, *told)
    assert code == 0, said
    assert "left out, as they need the Hub: outside" in said
    assert table["rows"]["rows_out"] == 60
    assert table["written"]["rows_in"] == 60
    assert table["kept"]["rows_out"] == 30
    assert table["exam"]["requests"] == 60
    rehearsed = yaml.safe_load((folder / "rehearsal.yaml").read_text())["stages"]["student_trained"]
    assert rehearsed["per_device_train_batch_size"] == 16
    assert not {"bf16", "quantization", "launch", "gradient_accumulation_steps"} & set(rehearsed)
    assert rehearsed["max_steps"] == 3
    # What was walked before is not walked again, and a count that cannot be met is found.
    table, said, code = rehearse(file, *told, "--set", "stages.kept.n=20")
    assert code == 0, said
    assert table["written"]["state"] == "reused"
    assert table["kept"]["rows_out"] == 20
    table, said, code = rehearse(file, *told, "--set", "stages.kept.n=58")
    assert code != 0
    assert "stages.kept.n: 58 rows are wanted" in " ".join(said.split())
    # Fewer rows in the same folder are fewer rows.
    fewer = ("--rows", "somebody/questions=40", "--folder", str(folder))
    table, said, code = rehearse(file, *fewer, "--set", "stages.kept.n=5")
    assert table["rows"]["rows_out"] == 30, said


CONVERSATIONS = """
name: chats
models:
  student: {model_name_or_path: somebody/Student-2B}
stages:
  chats: {stage: load_dataset, path: somebody/chats}
  pairs: {stage: load_dataset, path: somebody/pairs, columns: {rejected: bad}}
  own: {stage: load_dataset, path: own.jsonl}
  taught:
    {stage: train_sft, model: student, rows: chats, messages_column: talk, max_steps: 1}
  aligned: {stage: train_dpo, model: taught, rows: pairs, max_steps: 1}
  fit:
    {stage: score_student_fit, rows: own, model: student, signal: nll_low,
      completion_column: answer, prompt_template: ask.jinja}
"""


@pytest.mark.slow
def test_columns_are_those_that_the_stages_read(tmp_path: Path) -> None:
    """Conversations, pairs, and rows of this machine, whose likelihoods a script cannot tell."""
    (tmp_path / "chats.yaml").write_text(CONVERSATIONS)
    (tmp_path / "ask.jinja").write_text("{{ topic }}?")
    own = [{"id": str(n), "topic": f"topic {n}", "answer": f"yes {n}"} for n in range(7)]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in own))
    rows = ("--rows", "somebody/chats=20", "--rows", "somebody/pairs=30")
    table, said, code = rehearse(tmp_path / "chats.yaml", *rows)
    assert code == 0, said
    assert [table[name]["rows_out"] for name in ("chats", "pairs", "own", "fit")] == [20, 30, 7, 7]
    assert [table[name]["rows_in"] for name in ("taught", "aligned")] == [20, 30]


def test_a_dataset_of_unknown_size_is_asked_for(file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"of somebody/questions\?.*--rows somebody/"):
        write_rehearsal(load_pipeline(str(file)), tmp_path, {})
    assert rows_of("a/b", None, "test", {"a/b": 5, "a/b:test": 7}) == 7


def test_a_stand_in_is_not_stopped_for_what_it_writes(tmp_path: Path) -> None:
    (tmp_path / "watched.yaml").write_text("""
name: watched
models: {student: {model_name_or_path: data/models/tiny-student, prompt_format: text}}
stages:
  questions: {stage: load_dataset, path: data/word_problems, split: test}
  written: {stage: generate, rows: questions, model: student, template: arte/exam.jinja,
            variables: {task_description: Solve it., examples: []}}
  watched: {stage: rollout_report, rows: written, max_growth: 1.5}
""")
    written, _ = write_rehearsal(load_pipeline(str(tmp_path / "watched.yaml")), tmp_path, {})
    watched: Any = load_pipeline(str(written)).stages["watched"]
    limits = (watched.max_growth, watched.max_truncated, watched.max_repetition, watched.max_empty)
    assert limits == (None, None, None, None)


def test_a_stand_in_need_not_agree_with_people(tmp_path: Path) -> None:
    written, _ = write_rehearsal(
        load_pipeline("pipelines/classify_news_paper.yaml"),
        tmp_path,
        {"fancyzhx/ag_news": 120, "your-name/news-by-two-people": 20},
    )
    trusted: Any = load_pipeline(str(written)).stages["trusted"]
    assert (trusted.people, trusted.minimum) == (("person_a", "person_b"), {})


def test_optional_stages_of_a_repeat_are_left_out_if_no_round_reads_them(tmp_path: Path) -> None:
    (tmp_path / "rounds.yaml").write_text("""
name: rounds
stages:
  questions: {stage: load_dataset, path: data/word_problems, split: test}
  rounds:
    repeat:
      times: 2
      start: {kept: questions}
      stages:
        drawn: {stage: select, optional: true, rows: kept@previous, n: 50, order: random}
        first: {stage: select, optional: true, rows: kept@previous, n: 50}
        kept: {stage: select, rows: drawn, n: 20}
        next_time: {stage: select, optional: true, rows: kept, n: 10}
""")
    written, _ = write_rehearsal(load_pipeline(str(tmp_path / "rounds.yaml")), tmp_path, {})
    stages = ["questions", "drawn@1", "kept@1", "drawn@2", "kept@2"]
    assert list(load_pipeline(str(written)).stages) == stages


def test_a_setting_called_repeat_and_a_budget(tmp_path: Path) -> None:
    (tmp_path / "mixed.yaml").write_text("""
name: mixed
variables: {task_description: Solve it., examples: []}
models:
  teacher:
    model_name_or_path: big
    engine: {kind: openai, base_url: "http://localhost:1/v1", price: {input: 1, output: 1}}
stages:
  questions: {stage: load_dataset, path: data/word_problems, split: test}
  rounds:
    repeat:
      times: 2
      until: {cost: 4}
      start: {kept: questions}
      stages:
        kept: {stage: generate, rows: kept@previous, model: teacher, template: arte/exam.jinja}
  mixed: {stage: mix, rows: [questions, kept@last], n: 9, weights: equal, repeat: false}
""")
    given = load_pipeline(str(tmp_path / "mixed.yaml"))
    written, _ = write_rehearsal(given, tmp_path, {})
    again = load_pipeline(str(written))
    assert list(again.stages) == ["questions", "kept@1", "kept@2", "mixed"]
    assert again.stages["mixed"].repeat is False
    assert given.loops
    assert not again.loops


def test_values_that_stages_of_tutors_can_read() -> None:
    text = question(random.Random(1), False, False)
    right = right_answer(text)
    turns = value("turns", "string", text, random.Random(2))
    assert [turn["speaker"] for turn in turns] == ["student"]
    assert turns[0]["user"] == "student"
    assert right in value("choices", "list[string]", text, random.Random(2))
    pipeline = load_pipeline("pipelines/pedagogical_alignment_paper.yaml")
    kind = needed_columns(pipeline)["more_lessons"]["completion"]
    declared = json.loads(value("completion", kind, text, random.Random(2)))
    assert declared == dict.fromkeys(("evaluation", "action", "state"), right)


def test_a_datasets_own_ids_are_there_and_differ(tmp_path: Path) -> None:
    stage = LoadDataset(stage="load_dataset", path="a/b", columns={"id": "c_id"}, split="test")
    of_the_hub(stage, tmp_path, {"question": "string"}, {"a/b": 5})
    rows = [json.loads(line) for line in (tmp_path / "test.jsonl").read_text().splitlines()]
    assert len({row["c_id"] for row in rows}) == 5


def test_json_whose_values_are_labels_has_one_of_them() -> None:
    prompt = 'Say it.\n\nReply with JSON:\n{"mistake": "guess|right-idea", "text": "…"}'
    request = Request("a", prompt, SamplingSettings(), 1)
    said = json.loads(answer(request))
    assert said.keys() == {"mistake", "text"}
    assert said["mistake"] in ("guess", "right-idea")


PAPERS = sorted(file.stem for file in (bundled_root() / "pipelines").glob("*_paper.yaml"))


@pytest.mark.parametrize("name", PAPERS)
def test_a_shipped_paper_file_can_be_rehearsed(name: str, tmp_path: Path, monkeypatch) -> None:
    from llm_distill.rehearsal import datasets

    monkeypatch.setattr(datasets, "rows_of", lambda *_: 120)
    written, _ = write_rehearsal(load_pipeline(f"pipelines/{name}.yaml"), tmp_path, {})
    assert load_pipeline(str(written)).stages


def test_layers_that_a_stand_in_does_not_have_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text('{"id": "a", "text": "one two"}\n')
    (tmp_path / "relations.yaml").write_text(f"""
name: p
models: {{large: {{model_name_or_path: a/b, prompt_format: text}}}}
stages:
  texts: {{stage: load_dataset, path: {tmp_path / "texts.jsonl"}}}
  begins: {{stage: make_student, model: large, layers: [4, 8]}}
  drawn: {{stage: make_student, model: large, config: {{hidden_size: 384}}}}
  related:
    stage: train_relations
    model: begins
    teacher: large
    rows: texts
    losses: {{attention_relation: 1.0}}
    teacher_layer: 21
    relation_heads: 48
""")
    written, _ = write_rehearsal(load_pipeline(str(tmp_path / "relations.yaml")), tmp_path, {})
    stages: dict[str, Any] = dict(load_pipeline(str(written)).stages)
    assert stages["begins"].layers == (1,)
    assert (stages["drawn"].layers, stages["drawn"].config) == (None, {})
    assert (stages["related"].teacher_layer, stages["related"].relation_heads) == (-1, None)
    assert stages["related"].losses.attention_relation is None


def test_percentages_and_slices_choose_rows_that_are_their_own(tmp_path: Path) -> None:
    settings = {"path": "a/b", "name": ["x", "y"], "columns": {"question": "q"}}

    def written(split: str) -> dict[str, Any]:
        stage = LoadDataset(stage="load_dataset", **settings, split=split)
        return of_the_hub(stage, tmp_path / split.partition("[")[2], {}, {"a/b": 50})

    found = {}
    for split in ("test[:20%]", "test[20%:]", "test[3:7]"):
        given = written(split)
        parts = sorted(Path(given["path"]).glob(f"*/{given['split'].partition('[')[0]}.jsonl"))
        found[split] = [[json.loads(line)["q"] for line in part.open()] for part in parts]
    first, rest, sliced = found.values()
    assert [len(part) for part in (*first, *rest, *sliced)] == [10, 10, 40, 40, 7, 7]
    assert not set(first[0]) & set(rest[0])
    assert sliced[0] == first[0][:7]
    with pytest.raises(ConfigError, match="expected a name, train"):
        written("test[:a%]")


def test_answers_are_right_wrong_and_unreadable_in_their_shares() -> None:
    seen: Counter[str] = Counter()
    for number in range(2000):
        asked = question(random.Random(number), templated=number % 2 == 0, options=number % 3 == 0)
        prompt = f"Solve it.\n\nQuestion: {asked}\n\nEnd with the answer in <ans>...</ans>."
        said = answer(Request(str(number), prompt, SamplingSettings(), number))
        readable = "<ans>" in said
        right = f"<ans>{right_answer(asked)}</ans>" in said
        seen["right" if right else "wrong" if readable else "unreadable"] += 1
    assert seen["right"] / 2000 == pytest.approx(0.7, abs=0.04)
    assert seen["unreadable"] / 2000 == pytest.approx(0.05, abs=0.02)


def test_an_answer_has_the_form_that_is_asked_for() -> None:
    draw = random.Random(1)
    asked = question(draw, templated=False, options=True)

    def said(prompt: str) -> str:
        return answer(Request("1", prompt, SamplingSettings(), 3))

    drafted = said(
        f"<input>{asked}</input>\n\nBrainstorm, then write 2 more as "
        "<Question_1><input>...</input><target>...</target></Question_1> and so on."
    )
    assert drafted.count("<input>") == drafted.count("Options: (A)") == 2
    assert "\\boxed{(" in said(f"{asked}\n\nPut the answer into \\boxed{{}}.")
    listed = said("Skills:\n\n- adding\n- taking away\n\nName some, as <skill>...</skill>.")
    assert "adding" in listed
    new = said(
        f"Question: {asked}\n\nWrite 3 new questions: <reason>...</reason>, <draft>...</draft>, "
        "<question>...</question>."
    )
    assert new.count("<question>") == 3
    assert another_like(asked, draw) != asked
    parts = said(
        f"Question: {asked}\n\nWrite each as <Subtask_1><question>...</question><solution>... "
        "<ans>...</ans></solution><answer>...</answer></Subtask_1>."
    )
    for part in read_blocks(parts, r"Subtask_\d+"):
        texts = [str(read_tag(part, tag)) for tag in ("question", "solution")]
        limits = {"least_steps": 1, "most_share": 0.75, "known": (1,)}
        assert subtask_problem(*texts, "", **limits) is None  # type: ignore[arg-type]
    assert len(read_blocks(parts, r"Subtask_\d+")) == 2
    assert read_tag(said(f"{asked}\n\nYes or no in <verdict>...</verdict>."), "verdict") == "yes"
    topics = "- rain: Rain, of course\n- law, order: Courts\n\nText: It rained.\n\n"
    given = said(f"Which fits?\n\n{topics}One label, between <label> and </label>.")
    assert read_tag(given, "label") in ("rain", "law, order")
    form = StructuredOutput(json_schema={"properties": {"reason": {}, "answer": {}}})
    structured = answer(Request("1", asked, SamplingSettings(), 3, structure=form))
    assert json.loads(structured).keys() == {"reason", "answer"}


ONE_TOKENIZER = """
name: one
models:
  teacher: {model_name_or_path: somebody/Teacher-14B}
  student: {model_name_or_path: somebody/Student-2B}
stages:
  texts: {stage: load_dataset, path: somebody/texts, required: [text]}
  more: {stage: mix, rows: [texts], n: 3}
  taught:
    stage: train_distill
    model: student
    teacher: teacher
    online: true
    rows: more
    text_column: text
    losses: {LOSSES}
  exam: {stage: evaluate, rows: texts, models: [student, taught], template: arte/exam.jinja}
  ship: {stage: gate, exams: [exam], model: taught, than: student, require: better}
"""


@pytest.mark.parametrize(("losses", "n"), [("sft: 1, forward_kl: 0.2", 1), ("alm: 1", 2)])
def test_models_whose_distributions_are_compared_have_one_tokenizer(
    losses: str, n: int, tmp_path: Path
) -> None:
    (tmp_path / "one.yaml").write_text(ONE_TOKENIZER.replace("LOSSES", losses))
    pipeline = load_pipeline(str(tmp_path / "one.yaml"))
    written, _ = write_rehearsal(pipeline, tmp_path, {"somebody/texts:train": 5})
    found = yaml.safe_load(written.read_text())
    folders = [Path(model["model_name_or_path"]) for model in found["models"].values()]
    assert len(set(folders)) == 2
    assert len({(folder / "tokenizer.json").read_text() for folder in folders}) == n
    # What a mixture passes on is asked of the dataset, and a gate lets random models pass.
    assert "text" in needed_columns(pipeline)["texts"]
    assert found["stages"]["ship"]["require"] == "not_worse"


def test_columns_are_of_the_type_that_a_stage_reads(tmp_path: Path) -> None:
    pipeline = load_pipeline("pipelines/judge_work_paper.yaml")
    kind = needed_columns(pipeline)["work"]["grade"]
    text = question(random.Random(1), False, False)
    assert {value("grade", kind, text, random.Random(n)) for n in range(60)} == {0, 1, 2, 3, 4}
    of_the_hub(
        LoadDataset(stage="load_dataset", path="a/b", columns={"choices": "options"}),
        tmp_path, {}, {"a/b": 1},
    )  # fmt: skip
    assert isinstance(json.loads((tmp_path / "train.jsonl").read_text())["options"], list)


def test_rows_of_a_step_are_as_many_in_passes_that_fit(tmp_path: Path) -> None:
    orca = load_pipeline("pipelines/orca_paper.yaml")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    written, _ = write_rehearsal(orca, tmp_path / "a", {"Open-Orca/OpenOrca": 20})
    packed: Any = load_pipeline(str(written)).stages["explained_first"]
    assert (packed.per_device_train_batch_size, packed.gradient_accumulation_steps) == (2, 64)

    long_rows = ["stages.explained_first.packing=false"]
    written, _ = write_rehearsal(
        load_pipeline("pipelines/orca_paper.yaml", assignments=long_rows),
        tmp_path / "b",
        {"Open-Orca/OpenOrca": 20},
    )
    plain: Any = load_pipeline(str(written)).stages["explained_first"]
    assert (plain.per_device_train_batch_size, plain.gradient_accumulation_steps) == (32, 4)


def test_likelihoods_of_a_model_that_writes_by_a_script_are_left_out(tmp_path: Path) -> None:
    pipeline = load_pipeline("pipelines/pedagogical_alignment_paper.yaml")
    written, left_out = write_rehearsal(pipeline, tmp_path, {"your-name/tutorbot-bio": 20})
    assert list(left_out.values()) == [["hint_or_solution"]]
    rehearsed = load_pipeline(str(written))
    assert all(model.engine.kind == "scripted" for model in rehearsed.models.values())


def test_trainings_can_be_cut_short(file: Path, tmp_path: Path) -> None:
    told = {"somebody/questions": 40}
    written, _ = write_rehearsal(load_pipeline(str(file)), tmp_path, told, max_steps=2)
    trained: Any = load_pipeline(str(written)).stages["student_trained"]
    assert trained.max_steps == 2  # the file says 3
