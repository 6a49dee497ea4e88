"""generate: what is asked, what comes back, and what a bad row does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.distillation.alignment.vocabularies import vocabulary_digest
from llm_distill.distillation.teacher.identity import scored_by
from llm_distill.engines.base import Completion, Request, StructuredOutput
from llm_distill.engines.scripted.engine import ScriptedEngine
from llm_distill.engines.scripted.settings import ScriptedSettings
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import DataError
from llm_distill.models.sources import ModelSource, load_tokenizer
from llm_distill.rows.messages import read_messages
from llm_distill.stages.generate import Generate
from llm_distill.stages.parse import Parse
from llm_distill.stages.verify import Verify

Run = Callable[..., Any]

ROWS = [
    {"id": "q1", "task": "sums", "question": "1 + 1?", "prompt": "drafted by"},
    {"id": "q2", "task": "dates", "question": "Which day?", "prompt": "drafted by"},
]


@pytest.fixture
def template(tmp_path: Path) -> Callable[[str, str], str]:
    def write(name: str, text: str) -> str:
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


@pytest.fixture
def plain(template: Callable[[str, str], str]) -> str:
    return template("plain.jinja", "{{ task_description }}|{{ question }}")


def stage(template: str | dict[str, str], **settings: Any) -> Generate:
    settings.setdefault("variables", {"task_description": "Solve."})
    return Generate(stage="generate", rows="rows", model="m", template=template, **settings)


def test_n_candidates_a_row(run_stage: Run, plain: str) -> None:
    run = run_stage(stage(plain, n=3), {"rows": ROWS}, {"m": lambda r: f" seen {r.seed} \n"})
    assert [row["id"] for row in run.rows] == ["q1-0", "q1-1", "q1-2", "q2-0", "q2-1", "q2-2"]
    first = run.rows[0]
    assert (first["parent_id"], first["candidate_index"], first["task"]) == ("q1", 0, "sums")
    assert first["prompt"] == "Solve.|1 + 1?"
    assert first["completion"] == first["completion"].strip()
    assert (first["finish_reason"], first["error"]) == ("stop", None)
    assert "strategy" not in first
    assert len({row["completion"] for row in run.rows}) == 6  # every request has its own seed
    assert run.metrics == {"requests": 6, "truncated": 0, "errors": 0}


def test_a_column_says_how_many_candidates_a_row_gets(run_stage: Run, plain: str) -> None:
    rows = [{**ROWS[0], "n": 3}, {**ROWS[1], "n": 0}]
    counted = stage(plain, n_column="n")
    run = run_stage(counted, {"rows": rows}, {"m": lambda r: f"seen {r.seed}"})
    assert [row["id"] for row in run.rows] == ["q1-0", "q1-1", "q1-2"]
    same = run_stage(stage(plain, n=3), {"rows": rows[:1]}, {"m": lambda r: f"seen {r.seed}"})
    assert run.rows == same.rows
    talks = [{**ROWS[0], "messages": [{"role": "user", "content": "2?"}], "n": 2}]
    again = run_stage(chat(n_column="n"), {"rows": talks}, {"m": lambda r: "4"})
    assert [row["id"] for row in again.rows] == ["q1-0", "q1-1"]
    with pytest.raises(DataError, match="row q2 of 'rows': n is None, not a whole number"):
        run_stage(counted, {"rows": [{**ROWS[1], "n": None}]}, {"m": lambda r: ""})
    assert counted.required_columns() == {"rows": {"id", "n"}}
    assert (counted.most_rows({"rows": 5}), counted.most_asked({"rows": 5})) == (None, None)
    with pytest.raises(ValidationError, match="n and n_column exclude each other"):
        stage(plain, n=2, n_column="n")


def test_what_is_thought_before_the_answer_is_a_column_of_its_own(
    run_stage: Run, plain: str
) -> None:
    def answer(request: Request) -> str:
        return (
            "<think><ans>5</ans>?</think>\n<ans>4</ans>" if "1 + 1" in str(request.prompt) else "4"
        )

    run = run_stage(stage(plain, parse={"tags": {"answer": "ans"}}), {"rows": ROWS}, {"m": answer})
    (row,) = run.rows
    assert (row["reasoning"], row["completion"]) == ("<ans>5</ans>?", "<ans>4</ans>")
    assert row["answer"] == "4"
    assert run.dropped == {"no <answer>": 1}
    thoughts = {"tags": {"thought": "think", "answer": "ans"}, "required": ["thought"]}
    (row,) = run_stage(stage(plain, parse=thoughts), {"rows": ROWS}, {"m": answer}).rows
    assert row["thought"] == "<ans>5</ans>?"


def test_seeds_belong_to_the_row_and_not_to_its_place(run_stage: Run, plain: str) -> None:
    def seeds(rows: list[dict[str, Any]], seed: int) -> dict[str, str]:
        run = run_stage(stage(plain, n=2), {"rows": rows}, {"m": lambda r: str(r.seed)}, seed=seed)
        return {row["id"]: row["completion"] for row in run.rows}

    assert seeds(ROWS[::-1], 1) == seeds(ROWS, 1)
    assert not set(seeds(ROWS, 1).values()) & set(seeds(ROWS, 2).values())


def test_strategies(run_stage: Run, template: Callable[[str, str], str]) -> None:
    templates = {
        "steps": template("a.jinja", "S {{ question }}"),
        "bare": template("b.jinja", "{{ question }}"),
    }
    run = run_stage(
        stage(templates, n=2), {"rows": ROWS[:1]}, {"m": lambda r: r.prompt[0]["content"]}
    )
    assert [row["id"] for row in run.rows] == ["q1-steps-0", "q1-steps-1", "q1-bare-0", "q1-bare-1"]
    assert [row["strategy"] for row in run.rows] == ["steps", "steps", "bare", "bare"]
    assert run.rows[0]["completion"] == "S 1 + 1?"
    assert run.rows[2]["completion"] == "1 + 1?"


def test_a_text_model_is_given_the_text_itself(run_stage: Run, plain: str) -> None:
    asked: list[Any] = []

    def answer(request: Request) -> str:
        asked.append(request.prompt)
        return "x"

    models = {"m": ModelSource("m", "scripted/m", prompt_format="text")}
    run_stage(stage(plain), {"rows": ROWS[:1]}, {"m": answer}, models=models)
    run_stage(stage(plain), {"rows": ROWS[:1]}, {"m": answer})
    assert asked == ["Solve.|1 + 1?", [{"role": "user", "content": "Solve.|1 + 1?"}]]


def test_examples_are_of_the_task_seeded_and_never_the_row_itself(
    run_stage: Run, template: Callable[[str, str], str]
) -> None:
    seeds = [
        {"id": f"s{i}", "task": task, "question": f"{task} {i}", "reference_answer": answer}
        for i, (task, answer) in enumerate(
            [("sums", "1"), ("sums", "2"), ("sums", "3"), ("dates", "4"), ("dates", "5"),
             ("dates", "6"), ("sums", None)]
        )
    ]  # fmt: skip
    shown = template(
        "e.jinja", "{% for e in examples %}{{ e.question }}:{{ e.reference_answer }};{% endfor %}"
    )
    settings = stage(shown, n=8, examples={"rows": "rows", "n": 2})
    assert settings.is_seeded()
    answers = {"m": lambda r: "x"}
    run = run_stage(settings, {"rows": seeds[:6]}, answers)
    assert len({row["prompt"] for row in run.rows if row["parent_id"] == "s0"}) > 1
    for row in run.rows:
        assert row["question"] + ":" not in row["prompt"]
        assert row["prompt"].count(row["task"]) == 2
    assert run_stage(settings, {"rows": seeds[:6]}, answers).rows == run.rows
    with_null = run_stage(settings, {"rows": seeds}, answers)  # s6 has no answer to show
    assert not any("None" in row["prompt"] for row in with_null.rows)


def test_a_null_variable_is_a_bad_row_and_not_an_exception(run_stage: Run, plain: str) -> None:
    rows = [{"id": f"q{i}", "question": "1 + 1?" if i else None} for i in range(10)]
    run = run_stage(stage(plain), {"rows": rows}, {"m": lambda r: "2"})
    assert [row["id"] for row in run.rows] == [f"q{i}-0" for i in range(10)]
    bad = run.rows[0]
    assert (bad["completion"], bad["prompt"], bad["finish_reason"]) == (None, None, "error")
    assert "question is null or empty" in bad["error"]
    assert run.metrics["errors"] == 1
    with pytest.raises(DataError, match=r"1 of 10 failed.*q0-0: .*question is null"):
        run_stage(stage(plain, max_error_rate=0.05), {"rows": rows}, {"m": lambda r: "2"})


class _Half:
    """Fails on the first request and cuts the second."""

    def generate(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            if index == 0:
                yield Completion(request.id, "", "error", error="prompt too long")
            else:
                yield Completion(request.id, " cut", "length")

    def close(self) -> None: ...


def test_what_the_engine_fails_on_and_cuts_is_counted(run_stage: Run, plain: str) -> None:
    models = {"m": ModelSource("m", "scripted/m")}
    run = run_stage(
        stage(plain, max_error_rate=0.5), {"rows": ROWS}, models=models, engines={"m": _Half}
    )
    assert [(r["completion"], r["error"]) for r in run.rows] == [
        (None, "prompt too long"), ("cut", None)
    ]  # fmt: skip
    assert run.metrics == {"requests": 2, "truncated": 1, "errors": 1}
    whole = stage(plain, max_error_rate=0.5, truncated="drop")
    run = run_stage(whole, {"rows": ROWS}, models=models, engines={"m": _Half})
    assert [r["completion"] for r in run.rows] == [None]
    assert run.dropped == {"cut by max_tokens": 1}
    with pytest.raises(DataError, match="prompt too long"):
        run_stage(stage(plain), {"rows": ROWS}, models=models, engines={"m": _Half})


def test_columns_before_a_run_are_those_of_a_run(run_stage: Run, plain: str) -> None:
    settings = stage({"a": plain}, completion_column="rationale")
    run = run_stage(settings, {"rows": ROWS}, {"m": lambda r: "x"})
    said = settings.output_columns({"rows": frozenset(ROWS[0])})
    assert said == set(run.rows[0])
    assert run.rows[0]["rationale"] == "x"
    offered = settings.template_variables({"rows": frozenset({"question"})})
    assert offered == {plain: {"question", "task_description"}}
    both = stage(plain, examples={"rows": "rows", "n": 1})
    assert both.required_columns() == {"rows": {"id"}}


def test_greedy_needs_no_seed_and_n_of_the_same_is_said(run_stage: Run, plain: str) -> None:
    greedy = stage(plain, sampling={"temperature": 0}, n=2)
    assert not greedy.is_seeded()
    assert stage(plain).is_seeded()
    run = run_stage(greedy, {"rows": ROWS}, {"m": lambda r: "x"})
    assert "temperature 0" in run.warnings[0]


@pytest.mark.parametrize(
    "settings", [{"template": {}}, {"template": {"a-b": "x"}}, {"completion_column": "id"},
                 {"n": 0}, {"examples": {"rows": "rows", "n": 0}}]
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage(**{"template": "x", **settings})


def test_two_models_draw_independently(run_stage: Run, plain: str) -> None:
    """The aligned teacher's drafts would else repeat the teacher's where alignment moved little."""
    seeds = {}
    for model in ("m", "other"):
        settings = stage(plain).model_copy(update={"model": model})
        run = run_stage(settings, {"rows": ROWS}, {model: lambda r: str(r.seed)})
        seeds[model] = {row["completion"] for row in run.rows}
    assert not seeds["m"] & seeds["other"]


def test_a_row_may_be_its_own_example_where_it_is_not_asked_about(
    run_stage: Run, template: Callable[[str, str], str]
) -> None:
    text = template("draft.jinja", "{% for e in examples %}{{ e.question }};{% endfor %}")
    three = [{"id": str(i), "question": f"{i}?"} for i in range(3)]
    for may, errors in ((True, 0), (False, 3)):
        examples = {"rows": "rows", "n": 3, "may_be_itself": may}
        settings = stage(text, examples=examples, max_error_rate=1.0)
        run = run_stage(settings, {"rows": three}, {"m": lambda r: "x"})
        assert run.metrics["errors"] == errors


def test_the_form_of_an_answer_reaches_every_request(run_stage: Run, plain: str) -> None:
    seen = []

    def answer(request: Request) -> str:
        seen.append(request.structure)
        return "4"

    settings = stage(plain, structured_output={"choice": ["4", "5"]})
    run_stage(settings, {"rows": ROWS}, {"m": answer})
    assert seen == [StructuredOutput(choice=("4", "5"))] * 2


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({}, "set one of json_schema, choice and regex; found none"),
        ({"regex": "a", "choice": ["b"]}, "found choice and regex"),
        ({"regex": "(a"}, "regex: missing \\)"),
        ({"choice": []}, "at least 1 item"),
    ],
)
def test_a_form_that_is_none_is_refused(plain: str, form: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage(plain, structured_output=form)


CHAIN = [
    {"id": "q1", "question": "1 + 1?", "reference_answer": "2"},
    {"id": "q2", "question": "1 + 2?", "reference_answer": "3"},
    {"id": "q3", "question": "1 + 3?", "reference_answer": "4"},
    {"id": "q4", "question": "", "reference_answer": "5"},
]
TEXTS = {"1 + 1?": "so <ans>2</ans>", "1 + 2?": "so <ans>4</ans>", "1 + 3?": "no idea"}


def chain_answer(request: Request) -> str:
    return TEXTS[str(request.prompt).partition("|")[2].partition("'")[0]]


def test_parse_and_verify_give_what_the_stages_give(run_stage: Run, plain: str) -> None:
    read = {"tags": {"answer": "ans"}, "keep_text_as": "rationale", "drop_columns": ["prompt"]}
    check = {"drop_wrong": True}
    models = {"m": chain_answer}
    settings = {"max_error_rate": 1.0}
    at_once = stage(plain, parse=read, verify=check, **settings)
    found = run_stage(at_once, {"rows": CHAIN}, models)
    texts = run_stage(stage(plain, **settings), {"rows": CHAIN}, models)
    parsed = run_stage(Parse(stage="parse", rows="rows", **read), {"rows": texts.rows})  # type: ignore[arg-type]
    checked = run_stage(Verify(stage="verify", rows="rows", **check), {"rows": parsed.rows})  # type: ignore[arg-type]
    assert found.rows == checked.rows
    assert [row["id"] for row in found.rows] == ["q1-0"]
    assert set(found.features) == set(checked.features)
    assert found.dropped == {**parsed.dropped, **checked.dropped}
    assert found.dropped == {"no <answer>": 1, "an error upstream": 1, "wrong answer": 1}
    assert found.metrics == {**texts.metrics, **checked.metrics}
    assert at_once.output_columns({"rows": frozenset(CHAIN[0])}) == set(found.features)


def test_columns_that_parse_and_verify_need() -> None:
    read = {"tags": {"answer": "ans"}, "drop_columns": ["prompt", "task"]}
    asking = stage("x", parse=read, verify={})
    assert asking.required_columns() == {"rows": {"id", "reference_answer", "task"}}
    drafts = {"tags": {"answer": "a", "reference_answer": "b"}}
    assert stage("x", parse=drafts, verify={}).required_columns() == {"rows": {"id"}}
    with pytest.raises(ValidationError, match=r"parse\.drop_columns: verify needs answer"):
        stage("x", parse={**read, "drop_columns": ["answer"]}, verify={})


ASK, SAID = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "5"}
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


def talk(*messages: dict[str, Any], identity: str = "q1", **more: Any) -> dict[str, Any]:
    return {"id": identity, "messages": list(messages), **more}


def chat(**settings: Any) -> Generate:
    return Generate(
        stage="generate", rows="rows", model="m", messages_column="messages", **settings
    )


def test_a_conversation_is_continued_with_its_tools(run_stage: Run) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> str:
        asked.append(request)
        return '<think>Add.</think><tool_call>{"name": "add", "arguments": {"a": 2}}</tool_call>'

    run = run_stage(chat(), {"rows": [talk(ASK, SAID, tools=json.dumps(TOOLS))]}, {"m": answer})
    (request,), (row,) = asked, run.rows
    assert (request.prompt, list(request.tools)) == ([ASK], TOOLS)
    assert (row["completion"], row["reasoning"], row["prompt"]) == ("", "Add.", None)
    (call,) = json.loads(row["tool_calls"])
    assert call["function"] == {"name": "add", "arguments": {"a": 2}}
    first, last = read_messages(row["messages"], "here")
    assert (first, last["tool_calls"], last["reasoning_content"]) == (ASK, [call], "Add.")


def test_every_turn_of_a_dialogue_sees_the_new_ones(run_stage: Run) -> None:
    shown: list[list[str]] = []

    def answer(request: Request) -> str:
        shown.append([message["content"] for message in request.prompt])  # type: ignore[index]
        return f"new {len(request.prompt)}"

    more = {"role": "user", "content": "Sure?"}
    rows = [talk(ASK, SAID, more, SAID), talk(ASK, SAID, identity="q2")]
    run = run_stage(chat(regenerate="all"), {"rows": rows}, {"m": answer})
    assert shown == [["2 + 2?"], ["2 + 2?"], ["2 + 2?", "new 1", "Sure?"]]
    said = [[m["content"] for m in row["messages"]] for row in run.rows]
    assert said == [["2 + 2?", "new 1", "Sure?", "new 3"], ["2 + 2?", "new 1"]]
    assert run.metrics["requests"] == 2
    run = run_stage(chat(regenerate="all", max_turns=1), {"rows": rows}, {"m": answer})
    assert [len(row["messages"]) for row in run.rows] == [2, 2]
    assert run.metrics["dialogues_at_max_turns"] == 1
    assert run.metrics["dialogues_cut_short"] == 0


def test_a_dialogue_that_ends_early_is_said(run_stage: Run) -> None:
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    calls = {"role": "assistant", "content": "", "tool_calls": json.dumps([call])}
    rows = [talk(ASK, calls, {"role": "tool", "content": "4"}, SAID)]
    run = run_stage(chat(regenerate="all"), {"rows": rows}, {"m": lambda r: "No call."})
    (row,) = run.rows
    assert [m["content"] for m in row["messages"]] == ["2 + 2?", "No call."]
    assert run.metrics["dialogues_cut_short"] == 1
    assert "1 dialogues end early" in "".join(run.warnings)


def test_a_question_that_is_written_in_a_chat_has_no_answer_yet(run_stage: Run) -> None:
    rows = [talk(ASK, question="2 + 2?", reference_answer="4", tools=json.dumps(TOOLS))]
    settings = chat(parse={"tags": {"question": "q"}})
    (row,) = run_stage(settings, {"rows": rows}, {"m": lambda r: "<q>3 + 3?</q>"}).rows
    assert (row["question"], row["seed_reference_answer"]) == ("3 + 3?", "4")
    assert "reference_answer" not in row


def test_a_conversation_that_is_none_is_a_bad_row(run_stage: Run) -> None:
    rows = [talk(ASK), talk(SAID, identity="q2"), talk({"role": "x", "content": ""}, identity="q3")]
    run = run_stage(chat(max_error_rate=1), {"rows": rows}, {"m": lambda r: "4"})
    errors = [row["error"] for row in run.rows]
    assert errors[0] is None
    assert "nothing before the assistant" in errors[1]
    assert "unknown role 'x'" in errors[2]


def test_a_system_message_and_examples_as_turns(
    run_stage: Run, template: Callable[[str, str], str]
) -> None:
    asked: list[Any] = []
    settings = Generate(
        stage="generate",
        rows="rows",
        model="m",
        template=template("ask.jinja", "Q: {{ question }}"),
        system_template=template("system.jinja", "You solve {{ task }}."),
        examples={
            "rows": "shown",
            "n": 1,
            "answer_template": template("answer.jinja", "A: {{ rationale }}"),
        },
    )
    example = {
        "id": "e",
        "task": "sums",
        "question": "3?",
        "rationale": "three",
        "reference_answer": "3",
    }
    rows = {"rows": ROWS[:1], "shown": [example]}
    run = run_stage(settings, rows, {"m": lambda r: asked.append(r.prompt) or "2"})
    assert [(m["role"], m["content"]) for m in asked[0]] == [
        ("system", "You solve sums."),
        ("user", "Q: 3?"),
        ("assistant", "A: three"),
        ("user", "Q: 1 + 1?"),
    ]
    assert run.rows[0]["prompt"] == "Q: 1 + 1?"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give one of template and messages_column"),
        ({"template": "a.jinja", "messages_column": "m"}, "give one of template"),
        ({"messages_column": "m", "system_template": "a.jinja"}, "go with a template"),
        ({"messages_column": "m", "system_column": "s"}, "go with a template"),
        (
            {"template": "a.jinja", "system_template": "b.jinja", "system_column": "s"},
            "give one of system_template and system_column",
        ),
    ],
)
def test_a_template_or_a_conversation(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Generate(stage="generate", rows="rows", model="m", **settings)


def test_another_question_does_not_have_the_answer_of_the_one_before(
    run_stage: Run, plain: str, caplog: pytest.LogCaptureFixture
) -> None:
    seed = {**ROWS[0], "reference_answer": "2", "skills": ["addition"], "level": 1}
    read = {"tags": {"question": "q", "answer": "a"}}
    written = {"m": lambda r: f"{r.prompt[0]['content']} <q>2 + 3?</q> <a>5</a>"}
    settings = stage(plain, parse={**read, "drop_columns": ["level"]})
    with caplog.at_level("INFO"):
        run = run_stage(settings, {"rows": [seed]}, written)
    (row,) = run.rows
    assert "1 + 1?" in row["completion"]  # the template reads the question before
    assert (row["question"], row["answer"], row["task"]) == ("2 + 3?", "5", "sums")
    assert (row["seed_question"], row["seed_reference_answer"]) == ("1 + 1?", "2")
    assert row["seed_skills"] == ["addition"]
    assert not {"reference_answer", "skills", "level", "seed_level"} & set(row)
    assert set(row) == settings.output_columns({"rows": frozenset(seed)}) == set(run.features)
    assert "reference_answer → seed_reference_answer" in caplog.text
    whole = stage(plain, completion_column="question")
    row = run_stage(whole, {"rows": [seed]}, {"m": lambda r: "2 + 3?"}).rows[0]
    assert (row["question"], row["seed_reference_answer"]) == ("2 + 3?", "2")
    same = stage(plain, parse={"tags": {"answer": "a"}})
    assert run_stage(same, {"rows": [seed]}, written).rows[0]["reference_answer"] == "2"


def test_another_question_is_not_compared_with_the_reference_of_the_one_before(
    run_stage: Run, plain: str
) -> None:
    seed = {**ROWS[0], "reference_answer": "5"}
    written = {"m": lambda r: "<q>2 + 3?</q> <a>5</a>"}
    read = {"tags": {"question": "q", "answer": "a"}}
    asked = stage(plain, parse=read, verify={})
    with pytest.raises(DataError, match="'reference_answer' is about the question before"):
        run_stage(asked, {"rows": [seed]}, written)
    meant = stage(plain, parse=read, verify={"reference_column": "seed_reference_answer"})
    assert meant.required_columns() == {"rows": {"id", "reference_answer"}}
    assert run_stage(meant, {"rows": [seed]}, written).rows[0]["is_correct"] is True
    both = {"tags": {**read["tags"], "reference_answer": "a"}}
    own = stage(plain, parse=both, verify={})
    assert run_stage(own, {"rows": [seed]}, written).rows[0]["is_correct"] is True


STUDENT = ModelSource("m", "data/models/tiny-student", prompt_format="text")


def test_tokens_are_kept_as_they_were_sampled(run_stage: Run, plain: str) -> None:
    asking = stage(plain, keep_tokens=True, n=3, sampling={"max_tokens": 12})
    engines = {"m": lambda: TransformersEngine(STUDENT, TransformersSettings(device="cpu"))}
    run = run_stage(asking, {"rows": ROWS}, models={"m": STUDENT}, engines=engines)
    tokenizer = load_tokenizer(STUDENT)
    for row in run.rows:
        assert (
            tokenizer.decode(row["completion_ids"], skip_special_tokens=True).strip()
            == (row["completion"])
        )
        assert len(row["rollout_logps"]) == len(row["completion_ids"]) <= 12
        assert max(row["rollout_logps"]) <= 0
    (writer,) = {(row["written_by"], row["written_with"]) for row in run.rows}
    assert writer == (scored_by(STUDENT), vocabulary_digest(tokenizer))
    assert run.warnings == []


def test_a_row_that_failed_has_no_tokens(run_stage: Run, plain: str) -> None:
    rows = [*ROWS, {"id": "q3", "task": "sums", "question": None, "prompt": "x"}]
    asking = stage(plain, keep_tokens=True, max_error_rate=1.0, sampling={"temperature": 0.5})
    engine = ScriptedEngine(ScriptedSettings(kind="scripted", function=f"{__name__}:four"), STUDENT)
    run = run_stage(asking, {"rows": rows}, models={"m": STUDENT}, engines={"m": lambda: engine})
    good, _, bad = run.rows
    assert bad["completion_ids"] is bad["rollout_logps"] is None
    assert good["completion_ids"][-1] == load_tokenizer(STUDENT).eos_token_id
    assert set(good["rollout_logps"]) == {-1.0}
    (warning,) = run.warnings
    assert "set temperature: 1, top_p: 1 and top_k: 0" in warning


def four(request: Request) -> str:
    return "It is 4."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sampling": {"stop": ["\n"]}}, "sampling.stop"),
        ({"sampling": {"thinking_token_budget": 3}}, "sampling.thinking_token_budget"),
        ({"structured_output": {"choice": ["a"]}}, "structured_output"),
        ({"completion_column": "written_by"}, "keep_tokens fills 'written_by'"),
    ],
)
def test_what_is_not_sampled_token_by_token_keeps_none(
    settings: dict[str, Any], message: str
) -> None:
    stage("t.jinja", **settings)
    with pytest.raises(ValidationError, match=message):
        stage("t.jinja", keep_tokens=True, **settings)
