"""simulate_dialogue: who is asked what, and how dialogues end."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request
from llm_distill.errors import ConfigError, DataError
from llm_distill.models.sources import ModelSource
from llm_distill.pipeline.load import load_pipeline
from llm_distill.runtime.context import ModelInput, StageContext, StageInputs
from llm_distill.runtime.fingerprint import result_settings
from llm_distill.stage import references
from llm_distill.stages.simulate_dialogue import SimulateDialogue
from llm_distill.tracking import TrackedRun
from tests.conftest import FakeEngine, FakeSettings, _NoBar
from tests.scripted_talks import (
    PROMPT,
    ROWS,
    asked,
    knows_the_remedy,
    learns,
    never_stops,
    repeats,
    tells,
    thinks_again,
    yields,
)

Run = Callable[..., Any]
OPENING = [
    {"speaker": "tutor", "text": "How did you solve it?"},
    {"speaker": "student", "column": "wrong_solution"},
]
STOP = [{"speaker": "student", "answers": "reference_answer", "answer_kind": "math"}]


@pytest.fixture
def prompt(tmp_path: Path) -> str:
    (tmp_path / "talk.jinja").write_text(PROMPT)
    return str(tmp_path / "talk.jinja")


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], str]:
    def written(name: str, text: str) -> str:
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return written


def stage(prompt: str, **settings: Any) -> SimulateDialogue:
    of = {"template": prompt}
    tutor = {"model": "t", "act_tag": "act", **of, **settings.pop("tutor", {})}
    student = {"model": "s", **of, **settings.pop("student", {})}
    given = {"opening": OPENING, "stop": STOP, "max_turns": 8} | settings
    speakers = given.pop("speakers", {"tutor": tutor, "student": student})
    return SimulateDialogue(stage="simulate_dialogue", rows="rows", speakers=speakers, **given)


def held(run_stage: Run, talk: SimulateDialogue, tutor: Any, pupil: Any, rows: Any = ROWS) -> Any:
    return run_stage(talk, {"rows": rows}, {"t": tutor, "s": pupil})


def test_engines_stay_open_from_turn_to_turn(run_stage: Run, prompt: str) -> None:
    opened: list[str] = []

    def engine(name: str, answer: Any) -> Callable[[], FakeEngine]:
        return lambda: opened.append(name) or FakeEngine(answer)  # type: ignore[func-returns-value]

    engines = {"t": engine("t", thinks_again), "s": engine("s", never_stops)}
    run = run_stage(stage(prompt), {"rows": ROWS}, engines=engines)
    assert run.metrics["mean_turns"] == 8
    assert opened == ["t", "s"]


def test_a_dialogue_as_a_row(run_stage: Run, prompt: str) -> None:
    run = held(run_stage, stage(prompt), knows_the_remedy, learns, ROWS[:1])
    (row,) = run.rows
    assert row["messages"] == [
        {"role": "assistant", "content": "How did you solve it?", "name": "tutor"},
        {"role": "user", "content": "7 + 5 is 22 or so, no, 12.", "name": "student"},
        {"role": "assistant", "content": "Did you carry?", "name": "tutor"},
        {"role": "user", "content": "Oh! The answer is 22.", "name": "student"},
    ]
    assert row["speakers"] == ["tutor", "student"] * 2
    assert row["acts"] == [None, None, "focus", None]
    assert row["finish_reasons"] == [None, None, "stop", "stop"]
    assert (row["n_turns"], row["stop_reason"], row["error"]) == (2, "answered", None)
    assert row["remedy"] == "carry"
    assert run.metrics["requests"] == 2
    assert run.metrics["mean_turns"] == 2


@pytest.mark.parametrize(
    ("tutor", "pupil", "reason", "n_turns"),
    [
        (tells, learns, "answered", 2),
        (knows_the_remedy, learns, "answered", 2),
        (thinks_again, learns, "turns", 8),
        (thinks_again, yields, "answered", 6),
        (thinks_again, never_stops, "turns", 8),
        (thinks_again, repeats, "repeated", 6),
        (lambda r: "<act>focus</act> ", learns, "empty", 0),
        (lambda r: "Well. Goodbye!", never_stops, "ended", 1),
        # of the tutor it ends nothing that the answer is right, nor of the pupil that it says bye
        (tells, lambda r: f"Goodbye! {len(asked(r)['turns'])} is it.", "turns", 8),
    ],
)
def test_how_a_dialogue_ends(
    run_stage: Run, prompt: str, tutor: Any, pupil: Any, reason: str, n_turns: int
) -> None:
    stop = [*STOP, {"speaker": "tutor", "says": "Goodbye!"}]
    talk = stage(prompt, stop=stop, student={"max_repeats": 2})
    run = held(run_stage, talk, tutor, pupil)
    assert [(row["stop_reason"], row["n_turns"]) for row in run.rows] == [(reason, n_turns)] * 4
    (table,) = run.metrics["figures"]
    (figure,) = table["rows"]
    assert figure["labels"] == {"stop_reason": reason}
    assert (figure["value"], figure["n"]) == (1.0, 4)
    assert 0 < figure["low"] < figure["high"] == 1


def test_a_right_number_that_is_not_the_final_answer_ends_nothing(
    run_stage: Run, prompt: str
) -> None:
    def pupil(request: Request) -> str:
        return f"It is not {asked(request)['answer']} but {500 + len(asked(request)['turns'])}."

    run = held(run_stage, stage(prompt, max_turns=4), thinks_again, pupil)
    assert {row["stop_reason"] for row in run.rows} == {"turns"}


def test_all_that_wait_for_a_speaker_are_asked_together(run_stage: Run, prompt: str) -> None:
    order = []

    def note(answer: Callable[[Request], str]) -> Callable[[Request], str]:
        def noted(request: Request) -> str:
            order.append(request.id)
            return answer(request)

        return noted

    held(run_stage, stage(prompt, max_turns=3), note(thinks_again), note(learns))
    by_turn = [sorted(order[i : i + 4]) for i in (0, 4, 8)]
    assert by_turn == [[f"q{i}-{turn}" for i in range(1, 5)] for turn in range(3)]
    assert len(order) == 12


def test_what_a_row_becomes_does_not_depend_on_the_others(run_stage: Run, prompt: str) -> None:
    def drawn(request: Request) -> str:
        return f"{request.seed}?"

    def rows(of: list[Any], seed: int = 0, tutor: Any = thinks_again) -> dict[str, Any]:
        run = run_stage(
            stage(prompt, max_turns=4), {"rows": of}, {"t": tutor, "s": drawn}, seed=seed
        )
        return {row["id"]: row for row in run.rows}

    whole = rows(ROWS)
    assert rows(ROWS[::-1]) == whole
    assert rows(ROWS[1:2]) == {"q2": whole["q2"]}
    said = [m["content"] for row in whole.values() for m in row["messages"][3::2]]
    assert len(set(said)) == 8  # each turn of each row has a seed of its own
    other = rows(ROWS, seed=1)
    assert other["q1"]["messages"][3:4] != whole["q1"]["messages"][3:4]
    # Another tutor meets the same pupil.
    assert rows(ROWS, tutor=tells)["q1"]["messages"][3] == whole["q1"]["messages"][3]


def test_each_sees_its_own_acts_and_its_own_columns(
    run_stage: Run, prompt: str, write: Callable[[str, str], str]
) -> None:
    seen: dict[str, list[str]] = {"t": [], "s": []}
    shown = "{% for t in turns %}[{{ t.speaker }} {{ t.act }} {{ t.text }}]{% endfor %}"
    talk = stage(
        "",
        tutor={"template": write("t.jinja", shown)},
        student={"template": write("s.jinja", shown + "{{ remedy }} {{ speaker }}")},
        max_turns=4,
    )

    def tutor(request: Request) -> str:
        seen["t"].append(request.prompt[0]["content"])
        return "<act>probing</act> Why?"

    def pupil(request: Request) -> str:
        seen["s"].append(request.prompt[0]["content"])
        return "So."

    held(run_stage, talk, tutor, pupil, ROWS[:1])
    begun = "[{} None How did you solve it?][student None 7 + 5 is 22 or so, no, 12.]".format
    assert seen["s"][1] == (
        begun("tutor") + "[tutor None Why?][student None So.][tutor None Why?]carry student"
    )
    assert seen["t"][1] == begun("tutor") + "[tutor probing Why?][student None So.]"


def test_a_chat_has_its_own_turns_as_the_assistants(
    run_stage: Run, write: Callable[[str, str], str]
) -> None:
    asked_of: list[Any] = []

    def tutor(request: Request) -> str:
        asked_of.append(request.prompt)
        return "<act>probing</act>Why?"

    system, first = write("sys.jinja", "You teach {{ question }}"), write("f.jinja", "Begin.")
    plain = write("s.jinja", "{{ turns | length }}")
    chat = {"system_template": system, "chat": True, "template": None}
    held(
        run_stage,
        stage(plain, tutor=chat, max_turns=3),
        tutor,
        lambda r: "So.",
        ROWS[:1],
    )
    begun = [
        {"role": "system", "content": "You teach What is 17 + 5?"},
        {"role": "assistant", "content": "How did you solve it?"},
        {"role": "user", "content": "7 + 5 is 22 or so, no, 12."},
    ]
    assert asked_of[0] == begun
    assert asked_of[1] == [
        *begun,
        {"role": "assistant", "content": "<act>probing</act> Why?"},
        {"role": "user", "content": "So."},
    ]
    del asked_of[:]
    pupil_opens = [{"speaker": "student", "text": "Help me."}]
    with_first = stage(plain, tutor={**chat, "template": first}, opening=pupil_opens, max_turns=1)
    held(run_stage, with_first, tutor, lambda r: "So.", ROWS[:1])
    assert asked_of[0][1:] == [{"role": "user", "content": "Begin.\n\nHelp me."}]


def test_a_text_model_is_given_text_and_no_chat(run_stage: Run, prompt: str) -> None:
    given: list[Any] = []

    def tutor(request: Request) -> str:
        given.append(request.prompt)
        return "Why?"

    models = {"t": ModelSource("t", "scripted/t", prompt_format="text")}
    answers = {"t": tutor, "s": learns}
    run_stage(stage(prompt, max_turns=1), {"rows": ROWS[:1]}, answers, models=models)
    assert json.loads(given[0])["me"] == "tutor"
    chat = stage(prompt, tutor={"chat": True})
    with pytest.raises(ConfigError, match="speakers.tutor: model 't' has prompt_format: text"):
        run_stage(chat, {"rows": ROWS[:1]}, answers, models=models)


def test_before_and_after_are_asked_of_one_alone(run_stage: Run, prompt: str) -> None:
    question = {"speaker": "student", "template": prompt, "sampling": {"max_tokens": 7}}
    heard: list[Request] = []

    def pupil(request: Request) -> str:
        heard.append(request)
        return learns(request)

    talk = stage(prompt, before=question, after=question)
    run = held(run_stage, talk, knows_the_remedy, pupil, ROWS[:1])
    (row,) = run.rows
    assert (row["before"], row["after"]) == ("Maybe it is 900.", "Oh! The answer is 22.")
    assert [r.id for r in heard] == ["q1-before", "q1-1", "q1-after"]
    assert len(asked(heard[0])["turns"]) == 0
    assert len(asked(heard[2])["turns"]) == 4
    assert [r.sampling.max_tokens for r in heard] == [7, 256, 7]
    assert run.metrics["requests"] == 4
    assert talk.most_asked({"rows": 3}) == {"t": (12, 256), "s": (18, 256)}


def test_three_speak_in_turn_and_know_each_other_by_name(
    run_stage: Run, write: Callable[[str, str], str]
) -> None:
    plain = write("p.jinja", "{{ speaker }}")
    seen: list[Any] = []

    def c(request: Request) -> str:
        seen.append(request.prompt)
        return "C."

    speakers = {
        "a": {"model": "t", "template": plain},
        "b": {"model": "s", "template": plain},
        "c": {"model": "u", "template": plain, "chat": True},
    }
    talk = stage("", speakers=speakers, opening=[], stop=[], max_turns=4)
    run = run_stage(talk, {"rows": ROWS[:1]}, {"t": lambda r: "A.", "s": lambda r: "B.", "u": c})
    assert run.rows[0]["speakers"] == ["a", "b", "c", "a"]
    assert [m["role"] for m in run.rows[0]["messages"]] == [
        "assistant",
        "user",
        "user",
        "assistant",
    ]
    assert seen == [[{"role": "user", "content": "c\n\na: A.\n\nb: B."}]]


class Broken(FakeEngine):
    """Fails for one request."""

    def __init__(self, answer: Callable[[Request], str], fails_at: str) -> None:
        super().__init__(answer)
        self.fails_at = fails_at

    def generate(self, requests: Any) -> Any:
        for completion in super().generate(requests):
            if completion.id == self.fails_at:
                completion = replace(completion, text="", finish_reason="error", error="no reply")
            yield completion


def test_a_speaker_without_a_model_says_its_template(
    run_stage: Run, prompt: str, write: Callable[[str, str], str]
) -> None:
    tells_it = write("tell.jinja", "{{ speaker }}: it is {{ reference_answer }}.")
    student = {"model": "s", "template": prompt}
    talk = stage(prompt, speakers={"tutor": {"says": tells_it}, "student": student})
    run = run_stage(talk, {"rows": ROWS}, {"s": learns})
    for row, given in zip(run.rows, ROWS, strict=True):
        assert row["messages"][2]["content"] == f"tutor: it is {given['reference_answer']}."
        assert row["finish_reasons"][2] == "stop"
    assert run.metrics["requests"] == sum((row["n_turns"] + 1) // 2 for row in run.rows)
    assert not talk.is_seeded() or talk.speakers["student"].sampling.temperature > 0
    asked_most = talk.most_asked({"rows": 3})
    assert asked_most is not None
    assert set(asked_most) == {"s"}


def test_an_engines_error_ends_one_dialogue(run_stage: Run, prompt: str) -> None:
    engines = {
        "t": lambda: Broken(thinks_again, "q2-2"),
        "s": lambda: FakeEngine(yields),
    }
    question = {"speaker": "student", "template": prompt}
    talk = stage(prompt, max_error_rate=0.25, after=question)
    run = run_stage(talk, {"rows": ROWS}, engines=engines)
    by_id = {row["id"]: row for row in run.rows}
    bad = by_id.pop("q2")
    assert (bad["stop_reason"], bad["error"], bad["n_turns"]) == ("error", "no reply", 2)
    assert bad["after"] is None
    assert {row["stop_reason"] for row in by_id.values()} == {"answered"}
    assert (run.metrics["errors"], run.metrics["requests"]) == (1, 2 * 4 + 4 + 3 * 3 + 3)
    with pytest.raises(DataError, match="1 of 4 failed"):
        run_stage(stage(prompt, max_error_rate=0.2), {"rows": ROWS}, engines=engines)


def test_an_error_after_the_dialogue_leaves_it_whole(run_stage: Run, prompt: str) -> None:
    engines = {"t": lambda: FakeEngine(tells), "s": lambda: Broken(learns, "q2-after")}
    question = {"speaker": "student", "template": prompt}
    talk = stage(prompt, max_error_rate=1, after=question)
    row = run_stage(talk, {"rows": ROWS}, engines=engines).rows[1]
    assert (row["stop_reason"], row["error"], row["after"]) == (
        "answered",
        "after: no reply",
        None,
    )
    engines = {"t": lambda: FakeEngine(tells), "s": lambda: Broken(learns, "q2-before")}
    talk = stage(prompt, max_error_rate=1, before=question)
    row = run_stage(talk, {"rows": ROWS}, engines=engines).rows[1]
    assert (row["stop_reason"], row["error"], row["n_turns"]) == ("error", "before: no reply", 0)


def test_a_row_without_its_opening_or_its_answer_is_bad(run_stage: Run, prompt: str) -> None:
    rows = [ROWS[0] | {"wrong_solution": " "}, ROWS[1] | {"reference_answer": None}, ROWS[2]]
    run = held(run_stage, stage(prompt, max_error_rate=1), tells, learns, rows)
    assert [row["error"] for row in run.rows] == [
        "wrong_solution is null or empty",
        "reference_answer is null or empty",
        None,
    ]
    assert run.rows[0]["messages"] == []
    with pytest.raises(DataError, match="1 of 3 failed"):
        held(run_stage, stage(prompt), tells, learns, rows)


def test_no_rows_are_no_dialogues(run_stage: Run, prompt: str) -> None:
    assert held(run_stage, stage(prompt), tells, learns, []).rows == []


class KilledError(Exception): ...


def test_a_run_that_was_killed_in_the_middle_asks_nothing_twice(
    tmp_path: Path, prompt: str
) -> None:
    """The completion store has what was said; the rest is asked once."""
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(tmp_path / "rows"), num_shards=1)
    made: list[str] = []

    class Engine(FakeEngine):
        dies_at: str | None = "q3-4"

        def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
            for request in requests:
                if request.id == Engine.dies_at:
                    raise KilledError
                made.append(request.id)
                yield Completion(request.id, self._answer(request), "stop", 3, 3)

    def rows() -> list[Any]:
        models = {
            name: ModelInput(ModelSource(name, name), FakeSettings(False), ({"is": name}, name))  # type: ignore[arg-type]
            for name in ("t", "s")
        }
        inputs = StageInputs(
            seed=0,
            work_dir=tmp_path / "work",
            store=tmp_path / "store.sqlite",
            tracked=TrackedRun("test", "test/now/stage", tmp_path / "tracking"),
            rows={"rows": tmp_path / "rows"},
            models=models,
        )
        answers = {"t": thinks_again, "s": yields}
        context = StageContext(
            inputs,
            lambda model: Engine(answers[model.source.name]),
            lambda *_: nullcontext(_NoBar()),  # type: ignore[arg-type, return-value]
        )
        try:
            return list(stage(prompt).run(context).rows)
        finally:
            context.close()

    with pytest.raises(KilledError):
        rows()
    n_before = len(made)
    assert n_before == 4 * 4 + 2
    Engine.dies_at = None
    found = rows()
    assert [row["stop_reason"] for row in found] == ["answered"] * 4
    assert len(made) == len(set(made)) == 4 * 6
    assert rows() == found
    assert len(made) == 4 * 6


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speakers": {"a": {"model": "t", "template": "x"}}}, "at least 2 items"),
        (
            {"opening": [{"speaker": "tutr", "text": "Hi"}]},
            r"opening\[0\].speaker: no speaker 'tutr'; did you mean 'tutor'",
        ),
        ({"opening": [{"speaker": "tutor"}]}, "give one of text and column"),
        ({"opening": [{"speaker": "tutor", "text": " "}]}, "text is blank: nothing is said"),
        ({"opening": [{"speaker": "tutor", "text": "a", "column": "b"}]}, "give one of text and"),
        (
            {"stop": [{"speaker": "pupil", "says": "Bye"}]},
            r"stop\[0\].speaker: no speaker 'pupil'",
        ),
        ({"stop": [{"speaker": "tutor"}]}, "give one of answers and says"),
        ({"after": {"speaker": "x", "template": "y"}}, "after.speaker: no speaker 'x'"),
        ({"max_turns": 0}, "greater than or equal to 1"),
        ({"tutor": {"template": None}}, "template is missing"),
        ({"tutor": {"template": None, "chat": True}}, "it knows no role and no row"),
        (
            {"tutor": {"template": None, "system_template": "s", "chat": True}, "opening": []},
            "speakers.tutor: it begins, and there is nothing that it could answer",
        ),
        ({"tutor": {"act_tag": "a b"}}, "should match pattern"),
        ({"tutor": {"says": "s"}}, "give one of model and says"),
        ({"speakers": {"a": {"says": "s", "template": "x"}, "b": {"says": "s"}}}, "template: says"),
        ({"speakers": {"tutor": {"says": "s"}, "student": {"says": "s"}}}, "none of them has a"),
        (
            {
                "speakers": {"tutor": {"says": "s"}, "student": {"model": "s", "template": "x"}},
                "after": {"speaker": "tutor", "template": "y"},
            },
            "after.speaker: 'tutor' has no model",
        ),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        stage("x.jinja", **settings)


def test_what_validate_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jinja").write_text("{{ question }} {{ turns }} {{ speaker }}")
    (tmp_path / "s.jinja").write_text("{{ misconception }} {{ turns }}")
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "question": "b"}) + "\n")
    (tmp_path / "talk.yaml").write_text(
        """
name: talk
models:
  m: {model_name_or_path: x, engine: {kind: scripted, function: "a:b"}}
stages:
  rows: {stage: load_dataset, path: rows.jsonl}
  talks:
    stage: simulate_dialogue
    rows: rows
    speakers:
      tutor: {model: m, template: t.jinja}
      student: {model: nobody, template: s.jinja}
    opening: [{speaker: student, column: wrong}]
    stop: [{speaker: student, answers: right}]
""".replace("  asked: {stage: select, rows: rows, where: {question: b}}\n", "")
    )
    with pytest.raises(ConfigError) as caught:
        load_pipeline("talk.yaml")
    said = str(caught.value)
    assert "speakers.student.model" in said
    assert "nobody" in said
    assert "'rows' gives no column 'right'" in said
    assert "'rows' gives no column 'wrong'" in said
    assert "misconception" in said
    assert "speakers.student.template" in said


def test_the_order_of_the_speakers_counts_and_models_within_are_found(prompt: str) -> None:
    talk = stage(prompt)
    assert references(talk)[1:] == [
        ("speakers.tutor.model", "t", "model"),
        ("speakers.student.model", "s", "model"),
    ]
    turned = talk.model_copy(update={"speakers": dict(reversed(talk.speakers.items()))})
    assert result_settings(turned) != result_settings(talk)
    assert "thinking_token_budget" not in json.dumps(result_settings(talk))
    assert talk.is_seeded()
    cold = {"sampling": {"temperature": 0}}
    assert not stage(prompt, tutor=cold, student=cold).is_seeded()
