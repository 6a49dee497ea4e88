"""assess: answers with their steps, and each rule's verdicts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource
from llm_distill.stage import references
from llm_distill.stages.assess import Assess
from tests.engines.conftest import save_model, save_tokenizer

Run = Callable[..., Any]
Make = Callable[..., Assess]

ROWS = [
    {"id": f"v{i}", "task": "sums", "question": f"{i} + 1 + 1?", "reference_answer": str(i + 2)}
    for i in range(6)
]
REWARD = {"by": "process_reward", "model": "reward", "kind": "next_token"}


@pytest.fixture
def stage(tmp_path: Path) -> Make:
    path = tmp_path / "exam.jinja"
    path.write_text(
        "{% for e in examples %}Question: {{ e.question }} {{ e.rationale }}\n{% endfor %}"
        "Question: {{ question }}"
    )

    def make(difficulty: Any, **settings: Any) -> Assess:
        return Assess(
            stage="assess", rows="rows", model="student", template=str(path),
            difficulty=difficulty, **settings,
        )  # fmt: skip

    return make


def number(request: Request) -> int:
    return int(request.prompt[0]["content"].split("Question: ")[-1].split(" ")[0])


def student(request: Request) -> str:
    """Right for 0, 1 and 2 (2 by a wrong way: `#` is what the reward model takes for wrong)."""
    n = number(request)
    if n == 4:
        return "I do not know."
    if n == 5:
        return " \n "
    way = f"{n} + 1 = {n + 1}.{' #' if n > 1 else ''}"
    return f"\n{way}\n\nSo it is <ans>{n + 2 if n < 3 else 0}</ans>\n"


def test_gold(run_stage: Run, stage: Make) -> None:
    run = run_stage(stage({"by": "gold"}), {"rows": ROWS}, {"student": student})
    assert [row["id"] for row in run.rows] == [row["id"] for row in ROWS]
    first = run.rows[0]
    assert first["prompt"] == "Question: 0 + 1 + 1?"
    assert first["completion"] == "0 + 1 = 1.\n\nSo it is <ans>2</ans>"
    assert first["steps"] == ["0 + 1 = 1.", "So it is <ans>2</ans>"]
    assert (first["answer"], first["is_correct"], first["step_scores"]) == ("2", True, None)
    assert (first["is_difficult"], first["difficulty_reason"]) == (False, None)
    assert first["task"] == "sums"
    assert [row["difficulty_reason"] for row in run.rows] == [
        None, None, None, "wrong answer", "no answer", "no answer",
    ]  # fmt: skip
    assert [row["is_difficult"] for row in run.rows] == [False] * 3 + [True] * 3
    assert run.rows[5]["steps"] == []
    assert run.metrics == {
        "n": 6,
        "n_difficult": 3,
        "share_difficult": 0.5,
        "reasons": {"no answer": 2, "wrong answer": 1},
        "n_with_reference": 6,
        "accuracy": 0.5,
        "verdict_accuracy": 1.0,
        "errors": 0,
        "truncated": 0,
    }


def test_gold_needs_references(run_stage: Run, stage: Make) -> None:
    gold, other = stage({"by": "gold"}), stage({"by": "consistency"})
    assert gold.required_columns() == {"rows": {"id", "question", "reference_answer"}}
    assert other.required_columns() == {"rows": {"id", "question"}}
    with pytest.raises(DataError, match="item v0 of 'rows' has no reference_answer"):
        run_stage(gold, {"rows": [{**ROWS[0], "reference_answer": " "}]}, {"student": student})


def test_consistency(run_stage: Run, stage: Make) -> None:
    """By question: all agree, two of five agree, none does, none has an answer, one has."""
    given = [
        ["1"] * 5,
        ["1", "2", "3", "2.", "4"],
        ["1", "2", "3", "4", "5"],
        [None] * 5,
        [None, None, "2", None, None],
        [None, "2", "2", None, None],
    ]
    asked: dict[int, int] = {}
    seeds: set[int] = set()

    def sampled(request: Request) -> str:
        n = int(request.id[1])
        seeds.add(request.seed)
        asked[n] = asked.get(n, 0) + 1
        answer = given[n][int(request.id[-1])]
        return "?" if answer is None else f"{request.id}\n\n<ans>{answer}</ans>"

    settings = stage({"by": "consistency"})
    assert settings.is_seeded()
    rows = [{k: v for k, v in row.items() if k != "reference_answer"} for row in ROWS]
    run = run_stage(settings, {"rows": rows}, {"student": sampled})
    assert asked == dict.fromkeys(range(6), 5)
    assert len(seeds) == 30
    assert [row["difficulty_reason"] for row in run.rows] == [
        None, None, "answers disagree", "no answer", "answers disagree", None,
    ]  # fmt: skip
    assert [row["id"] for row in run.rows] == [f"v{i}" for i in range(6)]
    assert run.rows[1]["completion"] == "v1-0\n\n<ans>1</ans>"  # the first sample
    assert (run.rows[5]["answer"], run.rows[5]["is_difficult"]) == (None, False)
    assert run.rows[0]["is_correct"] is None
    assert (run.metrics["accuracy"], run.metrics["verdict_accuracy"]) == (None, None)
    strict = stage({"by": "consistency", "samples": 5, "least_votes": 3})
    run = run_stage(strict, {"rows": rows[:2]}, {"student": sampled})
    assert [row["is_difficult"] for row in run.rows] == [False, True]


@pytest.fixture(scope="module")
def reward(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    """A Llama whose weights are set by hand: it doubts every step from the first `#` on.

    One layer attends to all tokens alike (its queries are 0) and adds their mean to each; a `#`
    has a direction of its own, from which the output layer takes `-`.
    """
    from transformers import LlamaForCausalLM

    path = tmp_path_factory.mktemp("reward")
    tokenizer = save_tokenizer(path)
    save_model(
        path, len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=256,
    )  # fmt: skip
    model: Any = LlamaForCausalLM.from_pretrained(path)
    good, bad, doubt = (tokenizer.convert_tokens_to_ids(token) for token in "+-#")
    with torch.no_grad():
        for weights in model.parameters():
            if weights.dim() == 2:
                weights.zero_()
        layer = model.model.layers[0].self_attn
        layer.v_proj.weight.copy_(torch.eye(8))
        layer.o_proj.weight.copy_(torch.eye(8))
        model.model.embed_tokens.weight[:, 0] = 1
        model.model.embed_tokens.weight[doubt, 1] = 1
        model.lm_head.weight[good, 0] = 2
        model.lm_head.weight[bad, 1] = 300
    model.save_pretrained(path)
    return ModelSource("reward", str(path))


def test_process_reward(run_stage: Run, stage: Make, reward: ModelSource) -> None:
    run = run_stage(stage(REWARD), {"rows": ROWS}, {"student": student}, {"reward": reward})
    assert [row["difficulty_reason"] for row in run.rows] == [
        None, None, "last step", "last step", "no answer", "no answer",
    ]  # fmt: skip
    for row in run.rows[:2]:
        assert all(score > 0.95 for score in row["step_scores"])
    for row in run.rows[2:4]:
        assert len(row["step_scores"]) == len(row["steps"]) == 2
        assert all(score < 0.05 for score in row["step_scores"])
    assert run.rows[4]["step_scores"] is None  # nothing to score without an answer
    assert run.metrics["reasons"] == {"last step": 2, "no answer": 2}
    assert (run.metrics["accuracy"], run.metrics["verdict_accuracy"]) == (3 / 6, 5 / 6)


def test_thresholds_and_an_early_mistake(run_stage: Run, stage: Make, reward: ModelSource) -> None:
    """A reward at most a threshold is doubt; none is at most 0, and all are at most 1."""

    def asks(**thresholds: float) -> list[bool]:
        settings = stage({**REWARD, **thresholds})
        given = {"rows": ROWS[:4]}
        rows = run_stage(settings, given, {"student": student}, {"reward": reward}).rows
        return [row["is_difficult"] for row in rows]

    assert asks(answer_threshold=0, step_threshold=0) == [False] * 4
    assert asks(answer_threshold=0) == [False, False, True, True]
    assert asks(step_threshold=0) == [False, False, True, True]
    assert asks(answer_threshold=1, step_threshold=1) == [True] * 4


def test_the_student_is_closed_before_the_reward_model_is_loaded(
    run_stage: Run, stage: Make, reward: ModelSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_distill.engines.process_reward import scoring

    said: list[str] = []

    class Student:
        def generate(self, requests: Any) -> Any:
            for request in requests:
                yield Completion(request.id, student(request), "stop")

        def close(self) -> None:
            said.append("closed")

    load = scoring.next_token_judge
    monkeypatch.setattr(scoring, "next_token_judge", lambda *a: said.append("loaded") or load(*a))
    models = {"student": ModelSource("student", "student"), "reward": reward}
    settings = stage(REWARD)
    run_stage(settings, {"rows": ROWS}, engines={"student": Student}, models=models)
    assert said == ["closed", "loaded"]


def test_bad_rows_are_neither_difficult_nor_not(
    run_stage: Run, stage: Make, reward: ModelSource
) -> None:
    """One question is empty, one answer too long for the reward model."""

    def talkative(request: Request) -> str:
        return student(request) + "# and on" * 300 * (number(request) == 1)

    rows = [*ROWS, {**ROWS[0], "id": "v6", "question": " "}]
    models = {"reward": reward}
    run = run_stage(
        stage(REWARD, max_error_rate=0.3), {"rows": rows}, {"student": talkative}, models
    )
    bad = {row["id"]: row for row in run.rows if row["error"] is not None}
    assert set(bad) == {"v1", "v6"}
    assert "context of 256" in bad["v1"]["error"]
    assert "question is null or empty" in bad["v6"]["error"]
    for row in bad.values():
        assert (row["is_difficult"], row["difficulty_reason"]) == (None, None)
        assert row["step_scores"] is None
    assert (bad["v1"]["answer"], bad["v6"]["completion"]) == ("3", None)
    assert (run.metrics["n"], run.metrics["errors"]) == (5, 2)
    for rate, message in [(0.1, "1 of 7 failed.*v6"), (0.0, "failed")]:
        with pytest.raises(DataError, match=message):
            run_stage(
                stage(REWARD, max_error_rate=rate), {"rows": rows}, {"student": talkative}, models
            )
    with pytest.raises(DataError, match="1 of 6 failed.*v1: question and answer have"):
        run_stage(stage(REWARD), {"rows": ROWS}, {"student": talkative}, models)


def test_a_failed_sample_makes_the_row_bad(run_stage: Run, stage: Make) -> None:
    class Flaky:
        def generate(self, requests: Any) -> Any:
            for request in requests:
                error = "lost" if request.id == "v0-3" else None
                yield Completion(request.id, "<ans>1</ans>", "stop", error=error)

        def close(self) -> None: ...

    models = {"student": ModelSource("student", "student")}
    run = run_stage(
        stage({"by": "consistency"}), {"rows": ROWS}, engines={"student": Flaky}, models=models
    )
    assert [row["error"] for row in run.rows] == ["lost", *[None] * 5]
    assert [row["is_difficult"] for row in run.rows] == [None, *[False] * 5]


def test_no_question_and_no_answer_load_no_reward_model(run_stage: Run, stage: Make) -> None:
    models = {"reward": ModelSource("reward", "nowhere")}
    run = run_stage(stage(REWARD), {"rows": ROWS[4:]}, {"student": lambda request: ""}, models)
    assert [row["difficulty_reason"] for row in run.rows] == ["no answer"] * 2


@pytest.mark.parametrize("difficulty", [{"by": "gold"}, {"by": "consistency"}, REWARD])
def test_no_questions_at_all(run_stage: Run, stage: Make, difficulty: Any) -> None:
    models = {"reward": ModelSource("reward", "nowhere")}
    run = run_stage(stage(difficulty), {"rows": []}, {"student": student}, models)
    assert run.rows == []
    assert (run.metrics["n"], run.metrics["share_difficult"]) == (0, None)


def test_steps_are_cut_where_the_setting_says(run_stage: Run, stage: Make) -> None:
    text = "1. Start with 3. 2. Add 4. 3. 3 + 4 = 7. <ans>7</ans>"
    settings = stage({"by": "gold"}, steps=r"(?<=\.)(?= \d+\. )")
    run = run_stage(settings, {"rows": ROWS[:1]}, {"student": lambda request: text})
    assert run.rows[0]["steps"] == [
        "1. Start with 3.", "2. Add 4.", "3. 3 + 4 = 7. <ans>7</ans>",
    ]  # fmt: skip


def test_worked_examples_are_of_the_task_and_never_the_question_itself(
    run_stage: Run, stage: Make
) -> None:
    worked = [{**row, "rationale": f"shown {row['id']}"} for row in ROWS]
    worked[3]["rationale"] = None
    settings = stage({"by": "gold"}, shots=2, examples="worked", sampling={"temperature": 0})
    assert settings.is_seeded()
    run = run_stage(settings, {"rows": ROWS, "worked": worked}, {"student": student})
    for row in run.rows:
        assert row["prompt"].count("shown") == 2
        assert f"shown {row['id']}" not in row["prompt"]
    assert "1 of 6 worked examples have no rationale" in run.warnings[0]
    many = stage({"by": "gold"}, shots=5, examples="worked")
    with pytest.raises(DataError, match="row v0: 5 examples of task 'sums' are wanted"):
        run_stage(many, {"rows": ROWS, "worked": worked}, {"student": student})


@pytest.mark.parametrize(
    ("difficulty", "settings", "message"),
    [
        ({"by": "luck"}, {}, "'gold', 'consistency', 'process_reward'"),
        ({"by": "gold"}, {"steps": "("}, "not a regular expression"),
        ({"by": "gold"}, {"steps": ""}, "would make every letter a step"),
        ({"by": "gold"}, {"shots": 1}, "need `examples`"),
        ({"by": "consistency"}, {"sampling": {"temperature": 0}}, "the same answer every time"),
        ({"by": "consistency", "samples": 2, "least_votes": 3}, {}, "least_votes: 3 of 2"),
        ({**REWARD, "separator": "|"}, {}, "separator does not belong to kind: next_token"),
        ({**REWARD, "bad": "+"}, {}, "good and bad are the same"),
        ({**REWARD, "kind": "token_classification"}, {}, "needs the separator"),
        (
            {**REWARD, "kind": "token_classification", "separator": "|", "good": "x"},
            {},
            "good does not belong to kind: token_classification",
        ),
    ],
)
def test_settings_that_do_not_fit(
    stage: Make, difficulty: Any, settings: Any, message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(difficulty, **settings)


def test_the_reward_model_is_one_of_the_references(stage: Make) -> None:
    settings = stage(REWARD)
    assert references(settings) == [
        ("rows", "rows", "rows"),
        ("model", "student", "model"),
        ("difficulty.model", "reward", "model"),
    ]
    assert not settings.loads("model")
    assert settings.loads("difficulty.model")


def test_an_answer_without_steps_is_no_answer(run_stage: Run, stage: Make) -> None:
    """What separates steps can be all that was written."""
    assess = stage(REWARD, steps=r"<ans>[^<]*</ans>")
    run = run_stage(assess, {"rows": ROWS[:1]}, {"student": lambda r: "<ans>2</ans>"})
    row = run.rows[0]
    assert (row["answer"], row["steps"], row["step_scores"]) == ("2", [], None)
    assert (row["is_difficult"], row["difficulty_reason"]) == (True, "no answer")
