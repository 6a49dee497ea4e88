"""What `plan` says a run will ask for: bounds, their price, and what it took the last time."""

from __future__ import annotations

import json

import pytest
import yaml
from datasets import Dataset

from llm_distill.stages.assess import Assess
from llm_distill.stages.evaluate import Evaluate
from llm_distill.stages.generate import Generate
from llm_distill.stages.load_dataset import LoadDataset
from llm_distill.stages.score_in_context import ScoreInContext
from llm_distill.stages.score_judge import ScoreJudge
from llm_distill.stages.select import Select
from llm_distill.stages.train_sft import TrainSft

GREEDY = {"temperature": 0, "max_tokens": 10}


@pytest.mark.parametrize(
    ("stage", "rows", "expected"),
    [
        (
            Generate(stage="generate", rows="r", model="m", template={"a": "x", "b": "y"}, n=3),
            {"r": 5},
            {"m": (30, 256)},
        ),
        (
            Generate(
                stage="generate",
                rows="r",
                model="m",
                messages_column="messages",
                regenerate="all",
                max_turns=4,
            ),
            {"r": 5},
            {"m": (20, 256)},
        ),
        (
            Evaluate(
                stage="evaluate",
                rows="r",
                models=["m", "o"],
                shots=[0, 3],
                examples="e",
                template="t",
                sampling=GREEDY,
            ),
            {"r": 7, "e": 3},
            {"m": (14, 10), "o": (14, 10)},
        ),
        (
            ScoreInContext(
                stage="score_in_context",
                rows="r",
                items="i",
                model=["m", "o"],
                template="t",
                sampling=GREEDY,
            ),
            {"r": 4, "i": 6},
            {"m": (24, 10), "o": (24, 10)},
        ),
        (
            ScoreJudge(
                stage="score_judge",
                rows="r",
                model="m",
                template="t",
                n=2,
                sampling={"max_tokens": 10},
            ),
            {"r": 4},
            {"m": (8, 10)},
        ),
        (TrainSft(stage="train_sft", rows="r", model="m"), {"r": 4}, {}),
    ],
)
def test_the_most_that_is_asked(stage, rows, expected):
    assert stage.most_asked(rows) == expected
    unknown = stage.most_asked(dict.fromkeys(rows))
    assert unknown == (None if expected else {})


def test_an_assessment_by_consistency_draws_samples():
    stage = Assess(
        stage="assess",
        rows="r",
        model="m",
        template="t",
        difficulty={"by": "consistency", "samples": 5},
        sampling={"max_tokens": 10},
    )
    assert stage.most_asked({"r": 3}) == {"m": (15, 10)}


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("rows.jsonl", {}, 7),
        ("rows.jsonl", {"limit": 3}, 3),
        ("rows.jsonl", {"split": "train[2:4]"}, 2),
        ("rows.parquet", {}, 7),
        ("rows.csv", {}, None),
        ("rows.csv", {"limit": 3}, 3),
        ("rows.jsonl.gz", {}, None),
    ],
)
def test_the_rows_of_local_files(name, settings, expected, tmp_path):
    import gzip

    rows = Dataset.from_list([{"id": str(n), "question": "é"} for n in range(7)])
    lines = "\n".join(json.dumps(row) for row in rows)  # the last line has no end
    (tmp_path / "rows.jsonl").write_text(lines)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    rows.to_parquet(tmp_path / "rows.parquet")
    rows.to_csv(tmp_path / "rows.csv")
    stage = LoadDataset(stage="load_dataset", path=str(tmp_path / name), **settings)
    assert stage.most_rows({}) == expected


def test_the_most_rows_of_a_selection():
    assert Select(stage="select", rows="r", n=10).most_rows({"r": 3}) == 3
    assert Select(stage="select", rows="r", n=10).most_rows({"r": None}) == 10
    assert Select(stage="select", rows="r", n=10, per="task").most_rows({"r": 30}) == 30


@pytest.fixture
def pipeline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(json.dumps({"id": str(n), "question": f"{n}?"}) + "\n" for n in range(20))
    (tmp_path / "rows.jsonl").write_text(rows)
    (tmp_path / "ask.jinja").write_text("{{ question }}")
    scripted = {"kind": "scripted", "function": "tests.engines.test_ray:reply"}
    price = {"input": 1, "output": 4}
    server = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "price": price}
    ask = {"stage": "generate", "template": "ask.jinja", "sampling": {"max_tokens": 50}}
    file = {
        "name": "p",
        "models": {
            "m": {"model_name_or_path": "m", "engine": scripted},
            "paid": {"model_name_or_path": "o", "engine": server},
        },
        "stages": {
            "rows": {"stage": "load_dataset", "path": "rows.jsonl", "limit": 10},
            "answers": {**ask, "rows": "rows", "model": "m", "n": 2},
            "judged": {**ask, "rows": "answers", "model": "paid"},
        },
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(file, sort_keys=False))
    return "p.yaml"


def planned_by(cli, *arguments):
    """What `plan --json` says, by stage, and in all."""
    found = json.loads(cli("plan", *arguments, "--json").out)
    return {each["stage"]: each for each in found["stages"]}, found["total"]


def test_plan_as_json_and_as_a_table(pipeline, cli):
    planned, total = planned_by(cli, pipeline)
    assert planned["answers"]["most_requests"] == 20
    assert planned["answers"]["most_written_tokens"] == 1000
    assert planned["answers"]["most_cost"] == 0
    assert planned["judged"]["most_requests"] == 20
    assert planned["judged"]["most_cost"] == pytest.approx(1000 * 4 / 1e6)
    assert total["most_requests"] == 40
    assert total["most_written_tokens"] == 2000
    assert total["most_cost"] == pytest.approx(1000 * 4 / 1e6)
    shown = [line.split() for line in cli("plan", pipeline).out.splitlines()]
    # `answers` has rows in a file: "0?" … "9?", twice each, a prompt of 2 characters
    assert ["answers", "20", "10*", "1,000"] in shown
    assert ["judged", "20", "1,000", "0.004"] in shown
    assert ["in", "all", "40", "10", "2,000", "0.004"] in shown


def test_plan_after_a_run(pipeline, cli):
    assert cli("run", pipeline, "--until", "answers").code == 0
    planned, _ = planned_by(cli, pipeline)
    assert planned["answers"]["action"] == "reuse"
    assert "most_requests" not in planned["answers"]
    assert planned["judged"]["most_requests"] == 20
    again = planned_by(cli, pipeline, "--set", "stages.rows.limit=5")[0]["answers"]
    assert again["most_requests"] == 10
    assert again["last_seconds"] > 0
    written = again["last_written_tokens"]  # scripted: words
    assert again["most_seconds"] == pytest.approx(again["last_seconds"] * 10 * 50 / written)


def test_the_price_of_prompts(pipeline, cli):
    """Of a stage whose rows are there: characters, where no tokenizer is."""
    assert cli("run", pipeline, "--until", "answers").code == 0
    judged = planned_by(cli, pipeline)[0]["judged"]
    assert judged["prompt_tokens"] == 10
    assert judged["prompt_tokens_counted_by"] == "characters"
    assert judged["most_cost"] == pytest.approx((1000 * 4 + 10) / 1e6)
