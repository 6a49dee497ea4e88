"""annotate: planted annotators with known error rates, and those that ignore the form."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from llm_distill.engines.base import Request
from llm_distill.errors import ConfigError, DataError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.rows.columns import Row
from llm_distill.runtime.fingerprint import result_settings
from llm_distill.stage import models_of
from llm_distill.stages.agreement import Agreement
from llm_distill.stages.annotate import Annotate
from llm_distill.stages.judge import Judge

Run = Callable[..., Any]
Answer = Callable[[Request], str]
BOOK: dict[str, Any] = {
    "mistake": {"guess": "Answers without reason", "misread": "Overlooks what the question says",
                "careless": "Knows how, and slips"},
    "remedy": {"ask": "Ask how the pupil came to it", "tell": "Say the answer"},
}  # fmt: skip
MISTAKES = list(BOOK["mistake"])


def stage(**settings: Any) -> Annotate:
    given = {"model": "teacher", "codebook": BOOK, **settings}
    if "annotators" in settings:
        del given["model"]
    return Annotate(stage="annotate", rows="rows", **given)


def talks(n: int) -> list[Row]:
    """Talk i has the mistake i % 3; it says so."""
    return [
        {"id": f"t{i}", "messages": [
            {"role": "assistant", "content": "What is 7 × 8?"},
            {"role": "user", "content": f"54! ({MISTAKES[i % 3]})"},
        ]}
        for i in range(n)
    ]  # fmt: skip


def text_of(request: Request) -> str:
    assert not isinstance(request.prompt, str)
    return request.prompt[0]["content"]


def truth(request: Request) -> str:
    return text_of(request).partition("54! (")[2].partition(")")[0]


def errs(share: float, name: str = "") -> Answer:
    """Answers with the truth, and in this share of the rows with another mistake."""

    def answer(request: Request) -> str:
        draw = random.Random(f"{request.id} {name}")
        others = [mistake for mistake in MISTAKES if mistake != truth(request)]
        said = draw.choice(others) if draw.random() < share else truth(request)
        return json.dumps({"mistake": said, "remedy": "ask"})

    return answer


def figures(run: Any, title: str) -> dict[tuple[str, ...], dict[str, Any]]:
    found = [table for table in run.metrics["figures"] if table["title"] == title]
    return {tuple(row["labels"].values()): row for table in found for row in table["rows"]}


def test_one_annotator_gives_columns(run_stage: Run) -> None:
    seen: list[str] = []

    def answer(request: Request) -> str:
        seen.append(text_of(request))
        return errs(0)(request)

    made = stage(roles={"user": "Pupil", "assistant": "Tutor"})
    run = run_stage(made, {"rows": talks(6)}, {"teacher": answer})
    assert [row["mistake"] for row in run.rows] == MISTAKES * 2
    assert {(row["remedy"], row["error"]) for row in run.rows} == {("ask", None)}
    assert "annotations" not in run.rows[0]
    assert "Tutor: What is 7 × 8?\n\nPupil: 54! (guess)" in "".join(seen)
    assert "- misread: Overlooks what the question says\n" in seen[0]
    assert '{"mistake": "guess|misread|careless", "remedy": "ask|tell"}' in seen[0]
    shares = figures(run, "mistake, share of rows by label")
    assert shares["guess",]["value"] == pytest.approx(1 / 3)
    assert set(made.output_columns({"rows": frozenset({"id", "messages"})}) or ()) == {*run.rows[0]}


def test_agreement_finds_the_planted_error_rates(run_stage: Run) -> None:
    """κ of the truth and one who errs in e of three labels is 1 − 1.5 e; of two independent ones
    (1 − 1.5 e)²; a control agrees with nobody and has no vote.
    """
    annotators = {
        "exact": {"model": "a"}, "good": {"model": "b"}, "poor": {"model": "c"},
        "control": {"random": True},
    }  # fmt: skip
    answers = {"a": errs(0), "b": errs(0.1, "b"), "c": errs(0.3, "c")}
    run = run_stage(stage(annotators=annotators), {"rows": talks(600)}, answers)
    found = figures(run, "agreement on mistake")
    for pair, kappa in (("exact, good", 0.85), ("exact, poor", 0.55), ("exact, control", 0.0)):
        figure = found["kappa", pair]
        assert figure["low"] < kappa < figure["high"]
        assert figure["high"] - figure["low"] < 0.15
    assert found["kappa", "good, poor"]["value"] == pytest.approx(0.85 * 0.55, abs=0.08)
    assert ("alpha", "exact, good, poor, control") in found
    right = [row["mistake"] == MISTAKES[i % 3] for i, row in enumerate(run.rows)]
    assert sum(right) > 560  # of three one errs alone in most rows
    null = sum(row["mistake"] is None for row in run.rows)
    assert null == run.metrics["ties"].get("mistake", 0)
    assert set(run.rows[0]["annotations"]) == {*annotators}
    assert run.rows[0]["annotations"]["exact"] == {"mistake": "guess", "remedy": "ask"}
    assert not figures(run, "agreement on remedy").get(("kappa", "exact, good"))  # undefined
    constant = "'exact' says ask of 'remedy' in all 600 rows: look whether it reads them"
    assert constant in run.warnings
    assert not any("of 'mistake' in all" in warning for warning in run.warnings)


def test_columns_of_each_annotator_are_a_gate_for_agreement(run_stage: Run) -> None:
    annotators = {"good": {"model": "a"}, "poor": {"model": "b"}, "control": {"random": True}}
    made = stage(annotators=annotators, annotator_columns=True)
    answers = {"a": errs(0.05, "a"), "b": errs(0.4, "b")}
    run = run_stage(made, {"rows": talks(90)}, answers)
    assert set(made.output_columns({"rows": frozenset({"id", "messages"})}) or ()) == {*run.rows[0]}
    for row in run.rows:
        for name in annotators:
            for field in BOOK:
                assert row[f"{name}_{field}"] == row["annotations"][name][field]
    people = [{**row, "person": MISTAKES[i % 3]} for i, row in enumerate(run.rows)]
    given = {"stage": "agreement", "rows": "rows", "minimum": {"kappa": 0.7}}
    good = Agreement(**given, annotators=["person", "good_mistake"])
    assert run_stage(good, {"rows": people}).rows[0]["good_mistake"] in MISTAKES
    poor = Agreement(**given, annotators=["person", "good_mistake", "poor_mistake"])
    with pytest.raises(DataError, match="kappa of person, poor_mistake is 0.3.., below 0.7"):
        run_stage(poor, {"rows": people})


def test_columns_of_annotators_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="annotator_columns goes with `annotators`"):
        stage(annotator_columns=True)
    book = {"mistake": BOOK["mistake"], "own_mistake": BOOK["mistake"]}
    clash = {"own": {"model": "a"}, "b": {"model": "b"}}
    with pytest.raises(ValidationError, match="'own_mistake' would be two columns"):
        stage(annotators=clash, annotator_columns=True, codebook=book)
    twice = {"a": {"model": "a"}, "a_b": {"model": "b"}}
    book = {"b_c": BOOK["mistake"], "c": BOOK["remedy"]}
    with pytest.raises(ValidationError, match="'a_b_c' would be two columns; rename"):
        stage(annotators=twice, annotator_columns=True, codebook=book)
    made = stage(annotators=clash, annotator_columns=True)
    assert "b_mistake" in made.columns_that_are_new()["rows"]
    assert "annotator_columns" not in result_settings(stage(annotators=clash))


def test_ties_are_null_and_counted(run_stage: Run) -> None:
    answers = {
        "a": lambda r: '{"mistake": "guess", "remedy": "ask"}',
        "b": lambda r: '{"mistake": "misread", "remedy": "ask"}',
    }
    both = {"one": {"model": "a"}, "two": {"model": "b"}}
    run = run_stage(stage(annotators=both), {"rows": talks(4)}, answers)
    assert {(row["mistake"], row["remedy"], row["error"]) for row in run.rows} == {
        (None, "ask", None)
    }
    assert run.metrics["ties"] == {"mistake": 4}
    assert "annotators disagree evenly, and the field is null: mistake 4" in run.warnings


def test_what_cannot_be_read_is_null_by_field_and_said(run_stage: Run) -> None:
    def answer(request: Request) -> str:
        if request.id == "t1":
            return '{"mistake": "laziness", "remedy": "ask"}'
        return "I would ask." if request.id == "t2" else errs(0)(request)

    rows = [*talks(5), {"id": "t5", "messages": []}]
    run = run_stage(stage(max_error_rate=0.2), {"rows": rows}, {"teacher": answer})
    errors = [row["error"] for row in run.rows]
    assert errors[0] is None
    assert errors[1] == "mistake: 'laziness' is no label"
    assert (run.rows[1]["mistake"], run.rows[1]["remedy"]) == (None, "ask")
    assert errors[2] == "no JSON with labels of the codebook"
    assert "text is null or empty" in errors[5]
    assert run.metrics["unreadable"] == {"mistake": 2, "remedy": 1}
    assert any(
        "2 of 5 answers of 'annotator' have no label of 'mistake'" in w for w in run.warnings
    )


def test_an_annotator_that_ignores_the_form_is_not_paid_for_long(run_stage: Run) -> None:
    asked: list[str] = []

    def chats(request: Request) -> str:
        asked.append(request.id)
        return "A pupil should be asked, of course."

    with pytest.raises(DataError) as error:
        run_stage(stage(), {"rows": talks(60)}, {"teacher": chats})
    said = str(error.value)
    assert "20 of 20 replies of the annotator 'teacher' have no labels of the codebook for" in said
    assert "tutoring/annotate.jinja" in said
    assert len(asked) <= 24
    never = {"teacher": lambda request: '{"mistake": "guess", "remedy": "hint"}'}
    with pytest.raises(DataError, match="no answer of 'annotator' has a label of 'remedy'.*'hint'"):
        run_stage(stage(), {"rows": talks(6)}, never)


def test_why_an_earlier_field_is_null_is_kept(run_stage: Run) -> None:
    before = "tone: 'loud' is no label"
    rows = [{**row, "error": before} for row in talks(2)]
    answers = {"teacher": lambda r: errs(0)(r) if r.id == "t0" else '{"remedy": "ask"}'}
    run = run_stage(stage(), {"rows": rows}, answers)
    assert [row["error"] for row in run.rows] == [before, "mistake: 'nothing' is no label"]


def test_what_is_in_the_rows_already_is_not_written_over(tmp_path: Path) -> None:
    """A field by whoever labelled it, and what the annotators of a stage before have said."""
    (tmp_path / "talks.jsonl").write_text(json.dumps({**talks(1)[0], "mistake": "guess"}))
    two = {"one": {"model": "m"}, "control": {"random": True}}
    tone = {"tone": {"cold": "x", "warm": "y"}}
    first = {"stage": "annotate", "rows": "talks", "codebook": tone, "annotators": two}
    raw = {
        "name": "chain",
        "models": {"m": {"model_name_or_path": "a/b"}},
        "stages": {
            "talks": {"stage": "load_dataset", "path": str(tmp_path / "talks.jsonl")},
            "first": first,
            "second": {**first, "rows": "first", "codebook": BOOK},
        },
    }  # fmt: skip
    file = tmp_path / "chain.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    with pytest.raises(ConfigError) as error:
        load_pipeline(str(file))
    said = str(error.value)
    lost = "'first' gives 'annotations' already, and it would be lost; let one `annotate` have all"
    assert lost in said
    assert "gives 'mistake' already, and it would be lost; choose another name, such as own" in said
    raw["stages"]["second"] |= {"codebook": {"own_mistake": BOOK["mistake"]}, "annotators": {}}
    raw["stages"]["second"]["model"] = "m"  # one annotator keeps them
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    stages = load_pipeline(str(file)).stages
    assert "annotations" in (
        stages["second"].output_columns({"first": frozenset({"annotations"})}) or ()
    )


def test_the_control_needs_no_model_and_is_the_same_again(run_stage: Run) -> None:
    alone = stage(annotators={"control": {"random": True}})
    assert (alone.is_seeded(), alone.most_asked({"rows": 9}), models_of(alone)) == (True, {}, [])
    first, again, other = (
        [row["mistake"] for row in run_stage(alone, {"rows": talks(60)}, seed=seed).rows]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert {*first} == {*MISTAKES}


def test_a_text_without_turns_and_several_labels(run_stage: Run) -> None:
    book = {"faults": {"several": True, "labels": {"rude": "x", "too long": "y"}}}
    answers = {"teacher": lambda request: '{"faults": ["too long"]}'}
    made = stage(codebook=book, text_column="reply")
    run = run_stage(made, {"rows": [{"id": f"r{i}", "reply": "No!"} for i in range(3)]}, answers)
    assert [row["faults"] for row in run.rows] == [["too long"]] * 3


def test_an_engine_that_can_is_held_to_the_form(run_stage: Run) -> None:
    forms: list[Any] = []

    def answer(request: Request) -> str:
        forms.append(request.structure)
        return errs(0)(request)

    run_stage(stage(), {"rows": talks(1)}, {"teacher": answer}, structured=frozenset({"teacher"}))
    run_stage(stage(), {"rows": talks(1)}, {"teacher": answer})
    assert forms[0].json_schema["properties"]["remedy"]["enum"] == ["ask", "tell"]
    assert forms[1] is None


def test_the_template_may_read_columns_in_place_of_a_text(run_stage: Run, tmp_path: Path) -> None:
    own = tmp_path / "own.jinja"
    own.write_text("{{ messages[-1].content }} {{ codebook[0].labels[0].name }} {{ form }}")
    made = stage(annotators={"one": {"model": "a", "template": str(own)}})
    assert made.required_columns() == {"rows": {"id"}}
    assert set(made.template_variables({"rows": None})) == {str(own)}
    run = run_stage(made, {"rows": talks(3)}, {"a": errs(0)})
    assert [row["mistake"] for row in run.rows] == MISTAKES


def test_a_codebook_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "book.yaml"
    file.write_text("mistake: {guess: x, misread: y}\n")
    made = stage(codebook=str(file))
    assert made.fields[0].names == ["guess", "misread"]
    assert list(made.source_digests()) == ["book.yaml"]
    file.write_text("- mistake\n")
    with pytest.raises(ValidationError, match="it has to map each field to its labels"):
        stage(codebook=str(file))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model": None}, "give one of model and annotators"),
        ({"annotators": {"a": {}}}, "an annotator has a model, or random: true"),
        ({"annotators": {"a": {"model": "b", "random": True}}}, "has a model, or random: true"),
        ({"annotators": {"a b": {"model": "b"}}}, "'a b' is a column"),
        ({"codebook": {"m": {"A": "x", "a.": "y"}}}, "codebook: .* are one name"),
        ({"codebook": {"reason": {"a": "x", "b": "y"}}}, "the column 'reason' is something else"),
        ({"codebook": "none.yaml"}, "no file 'none.yaml'"),
        ({"variables": {"mistake": "x"}}, "like a variable"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        stage(**settings)


def test_what_is_asked_is_bounded() -> None:
    two = {"a": {"model": "big"}, "b": {"model": "big"}, "c": {"random": True}}
    made = stage(annotators=two)
    assert made.most_asked({"rows": 10}) == {"big": (20, 256)}
    assert made.most_asked({"rows": None}) is None
    assert models_of(made) == ["big", "big"]


def test_the_examples_of_the_page_are_valid(tmp_path: Path) -> None:
    pages = Path(__file__).parents[2] / "docs"
    page = (pages / "annotating.md").read_text()
    whole, stopping, *gates = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "talks.jsonl").write_text(json.dumps(talks(1)[0]))
    file = tmp_path / "decisions.yaml"
    file.write_text(whole.replace("talks.jsonl", str(tmp_path / "talks.jsonl")))
    stages = load_pipeline(str(file)).stages
    assert stages["decisions"].fields[2].several  # type: ignore[attr-defined]
    (tmp_path / "gate.yaml").write_text(
        stopping.replace("talks.jsonl", str(tmp_path / "talks.jsonl"))
    )
    assert list(load_pipeline(str(tmp_path / "gate.yaml")).stages)[-1] == "agree"
    file.write_text(file.read_text().replace("{model: other}", "{model: othr}"))
    with pytest.raises(ConfigError, match=r"(?s)annotators.second.model.*did you mean 'other'"):
        load_pipeline(str(file))
    by, by_label = (Agreement(**yaml.safe_load(gate)["reliable"]) for gate in gates)
    assert (by.by, by_label.by_label) == ("category", True)
    found = re.findall(r"```yaml\n(feedback:.*?)```", (pages / "judging.md").read_text(), re.DOTALL)
    (tmp_path / "mine.jinja").write_text("{{ criterion.name }} {{ answer }}")
    both = yaml.safe_load(found[0].replace("mine.jinja", str(tmp_path / "mine.jinja")))
    assert [Judge(**raw).mode for raw in both.values()] == ["grade", "pairwise"]
