"""label: teachers whose answers and likelihoods are known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llm_distill.engines.base import Completion, Request, Score
from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.stages.label import Label

Run = Callable[..., Any]
SAMPLED: dict[str, Any] = {"confidence": "samples", "sampling": {"temperature": 1.0}}


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., Label]:
    file = tmp_path / "topics.yaml"
    file.write_text("- {name: arts, definition: Music and film}\n- sports\n- arts and crafts\n")

    def make(**settings: Any) -> Label:
        return Label(stage="label", rows="rows", model="teacher", labels=str(file), **settings)

    return make


def text_of(request: Request) -> str:
    prompt = request.prompt
    return prompt if isinstance(prompt, str) else prompt[0]["content"]


def teacher(request: Request) -> str:
    """What stands in the text; of several, one for each time that it is asked."""
    said = text_of(request).split("Text: ")[1].split("\n")[0].split("|")
    return said[int(request.id.rsplit("-", 1)[1]) % len(said)].strip()


def rows(*texts: str | None) -> list[dict[str, Any]]:
    return [{"id": f"t{number}", "text": text} for number, text in enumerate(texts)]


def test_one_answer_a_text(run_stage: Run, stage: Callable[..., Label]) -> None:
    asked = rows("<label>sports</label>", "Arts.", "<label>other</label>", "weather", None)
    made = stage(abstain="other", max_error_rate=0.2)
    run = run_stage(made, {"rows": asked}, {"teacher": teacher})
    assert [row["label"] for row in run.rows] == ["sports", "arts", None, None, None]
    assert [row["error"] is None for row in run.rows] == [True] * 4 + [False]
    assert run.rows[0]["choices"] == ["arts", "sports", "arts and crafts", "other"]
    assert {row["confidence"] for row in run.rows} == {None}
    assert run.metrics["labels"] == {"sports": 1, "arts": 1}
    assert (run.metrics["abstained"], run.metrics["unreadable"]) == (1, 1)
    assert run.warnings == [
        "no text has the label arts and crafts: add texts of it, sharpen its definition, or leave "
        "it out of the list",
        "1 answer names what is not in the list: 'weather' 1; such a name is no label: add it to "
        "the list, or say in a definition where it belongs, or set abstain, or with vLLM constrain",
    ]


def test_the_prompt_has_the_list_and_the_cut_text(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    seen: list[str] = []

    def look(request: Request) -> str:
        seen.append(text_of(request))
        return "sports"

    run_stage(stage(max_words=3, abstain="none"), {"rows": rows("a b c d")}, {"teacher": look})
    (prompt,) = seen
    assert "- arts: Music and film\n- sports\n- arts and crafts\n" in prompt
    assert "- none: none of the others fits" in prompt
    assert "Text: a b c\n" in prompt


def test_shares_of_several_answers(run_stage: Run, stage: Callable[..., Label]) -> None:
    asked = rows("sports|sports|arts|sports", "arts and crafts|arts|arts|nothing", "?|?|?|?")
    run = run_stage(stage(n=4, **SAMPLED), {"rows": asked}, {"teacher": teacher})
    first, second, third = run.rows
    assert (first["label"], first["confidence"]) == ("sports", 0.75)
    assert first["probabilities"] == [0.25, 0.75, 0]
    assert second["probabilities"] == pytest.approx([2 / 3, 0, 1 / 3])
    assert (third["label"], third["probabilities"], third["error"]) == (None, None, None)
    assert run.metrics["unreadable"] == 1


def test_several_labels(run_stage: Run, stage: Callable[..., Label]) -> None:
    asked = rows("<label>arts; sports</label>|arts", "<label></label>|<label></label>")
    run = run_stage(stage(several=True, n=2, **SAMPLED), {"rows": asked}, {"teacher": teacher})
    first, second = run.rows
    assert (first["labels"], first["probabilities"]) == (["arts"], [1, 0.5, 0])
    assert first["confidence"] == 0.5
    assert (second["labels"], second["confidence"]) == ([], 1)


def test_texts_that_all_have_none_of_the_labels_are_a_result(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    asked = rows("<label></label>", "<label> </label>", "I can't say.")
    run = run_stage(stage(several=True), {"rows": asked}, {"teacher": teacher})
    assert [row["labels"] for row in run.rows] == [[], [], None]
    assert run.warnings[0].startswith("no label fits any text, says the teacher (2 texts)")
    assert not any("no text has the label" in said for said in run.warnings)
    with pytest.raises(DataError, match="no row of 'rows' got a label of the list: 1 row without"):
        run_stage(stage(several=True), {"rows": asked[2:]}, {"teacher": teacher})


def test_an_answer_that_cannot_be_read_is_no_vote_against_all_labels(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    sorry = "I'm sorry, I can't help with that."
    asked = rows(f"<label>arts</label>|{sorry}", f"{sorry}|<label>dance</label>")
    run = run_stage(stage(several=True, n=2, **SAMPLED), {"rows": asked}, {"teacher": teacher})
    first, second = run.rows
    assert (first["labels"], first["confidence"]) == (["arts"], 1)
    assert (second["labels"], second["choices"], second["error"]) == (None, None, None)
    assert run.metrics["unreadable"] == 1
    assert any("1 row without an answer that can be read" in said for said in run.warnings)


class Likelihoods:
    """p of each label is written in the text; a failed request where there is none."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def score(self, requests: Any) -> Iterator[Score]:
        for request in requests:
            prompt = request.prompt
            text = prompt if isinstance(prompt, str) else prompt[0]["content"]
            chances = text.split("Text: ")[1].split("\n")[0].split()
            self.asked.append(request.completion)
            index = int(request.id.rsplit("-", 1)[1])
            if len(chances) <= index:
                yield Score(request.id, error="too long")
            else:  # in two tokens, whose log-probabilities add up
                half = log(float(chances[index])) / 2
                yield Score(request.id, (1, 2), (half, half))

    def close(self) -> None: ...


def test_likelihoods_of_whole_labels(run_stage: Run, stage: Callable[..., Label]) -> None:
    engine = Likelihoods()
    asked = rows("0.1 0.3 0.1", None, "0.2 0.1", "0.004 0.001 0.003")
    made = stage(confidence="likelihood", max_error_rate=0.5)
    run = run_stage(made, {"rows": asked}, engines={"teacher": lambda: engine})
    assert [row["label"] for row in run.rows] == ["sports", None, None, "arts"]
    assert run.rows[0]["probabilities"] == pytest.approx([0.2, 0.6, 0.2])
    assert run.rows[0]["confidence"] == pytest.approx(0.6)
    assert run.rows[3]["probabilities"] == pytest.approx([0.5, 0.125, 0.375])
    assert "text is null or empty" in run.rows[1]["error"]
    assert run.rows[2]["error"] == "too long"
    assert len(engine.asked) == 9
    assert set(engine.asked) == {
        "<label>arts</label>",
        "<label>sports</label>",
        "<label>arts and crafts</label>",
    }
    assert made.asks("model") == "likelihoods"
    assert not made.is_seeded()


def test_a_liking_for_a_label_is_taken_away(run_stage: Run, stage: Callable[..., Label]) -> None:
    """The teacher says sports ten times too often, and is right but for that."""
    asked = rows("0.03 0.1 0.01", "0.01 0.3 0.01", None, "0.01 0.1 0.03")
    made = stage(confidence="likelihood", calibrate=True, max_error_rate=0.5)
    plain = stage(confidence="likelihood", max_error_rate=0.5)
    before = run_stage(plain, {"rows": asked}, engines={"teacher": Likelihoods})
    assert [row["label"] for row in before.rows] == ["sports", "sports", None, "sports"]
    run = run_stage(made, {"rows": asked}, engines={"teacher": Likelihoods})
    assert [row["label"] for row in run.rows] == ["arts", "sports", None, "arts and crafts"]
    assert "text is null or empty" in run.rows[2]["error"]
    given = [row["probabilities"] for row in before.rows if row["probabilities"]]
    means = [sum(column) / 3 for column in zip(*given, strict=True)]
    for row, old in zip([row for row in run.rows if row["label"]], given, strict=True):
        ratios = [p / mean for p, mean in zip(old, means, strict=True)]
        assert row["probabilities"] == pytest.approx([r / sum(ratios) for r in ratios])
        assert row["confidence"] == max(row["probabilities"])
    table = Results.from_metrics(run.metrics).own[1]
    assert [figure.value for figure in table.figures] == pytest.approx(means)


@pytest.mark.parametrize("holds", [True, False])
def test_constrained_where_the_engine_can(
    run_stage: Run, stage: Callable[..., Label], holds: bool
) -> None:
    seen: list[Request] = []

    def look(request: Request) -> str:
        seen.append(request)
        return "<label>arts</label>"

    held = frozenset({"teacher"} if holds else ())
    run_stage(stage(constrain=True), {"rows": rows("x")}, {"teacher": look}, structured=held)
    structure = seen[0].structure
    if not holds:
        assert structure is None
        return
    assert structure is not None
    assert structure.choice is not None
    assert structure.choice[2] == "<label>arts and crafts</label>"


class Cuts:
    """Ends each answer after what the text says."""

    def generate(self, requests: Any) -> Iterator[Completion]:
        for request in requests:
            yield Completion(request.id, teacher(request), "length")

    def close(self) -> None: ...


@pytest.mark.parametrize("several", [False, True])
def test_an_answer_that_was_cut_names_no_label(
    run_stage: Run, stage: Callable[..., Label], several: bool
) -> None:
    """`arts` may be what is left of `arts and crafts`."""
    asked = rows("<label>arts</label>, for it is", "<label>arts", "arts", "<label>rail</label> is")
    run = run_stage(stage(several=several), {"rows": asked}, engines={"teacher": Cuts})
    given = [row["labels" if several else "label"] for row in run.rows]
    assert given == [["arts"] if several else "arts", None, None, None]
    assert run.metrics["unreadable"] == 3
    assert any("in the list: " in said and "rail" in said for said in run.warnings)
    (said,) = [said for said in run.warnings if "cut" in said]
    assert said.startswith("2 answers were cut before a label was whole")
    assert said.endswith("raise sampling.max_tokens (64)")
    with pytest.raises(DataError, match="were cut before .*raise sampling.max_tokens .64., or ch"):
        run_stage(stage(several=several), {"rows": asked[1:3]}, engines={"teacher": Cuts})


def test_a_failed_request_is_an_error_of_its_row(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    class Fails:
        def generate(self, requests: Any) -> Iterator[Completion]:
            for request in requests:
                is_bad = request.id.startswith("t0")
                yield Completion(request.id, "arts", "stop", error="no" if is_bad else None)

        def close(self) -> None: ...

    made = stage(max_error_rate=0.5)
    run = run_stage(made, {"rows": rows("a", "b")}, engines={"teacher": Fails})
    assert [(row["label"], row["error"]) for row in run.rows] == [(None, "no"), ("arts", None)]


def test_a_teacher_that_answers_in_the_language_of_the_text(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    """Its answers are no labels of the list, and the run says which they are."""
    given = rows("arts", "Спорт", "“Sports”.", "スポーツ")
    run = run_stage(stage(), {"rows": given}, {"teacher": teacher})
    assert [row["label"] for row in run.rows] == ["arts", None, "sports", None]
    (said,) = [each for each in run.warnings if "not in the list" in each]
    assert said.startswith("2 answers name what is not in the list: 'Спорт' 1, 'スポーツ' 1; ")
    with pytest.raises(
        DataError, match="2 rows without one in any answer \\(named instead: 'Спорт' 2\\), .* check"
    ):
        run_stage(stage(), {"rows": rows("Спорт", "Спорт")}, {"teacher": teacher})


def test_texts_in_a_script_that_the_list_does_not_have_are_said(
    run_stage: Run, tmp_path: Path
) -> None:
    def said(entry: str, *texts: str | None, **settings: Any) -> list[str]:
        file = tmp_path / "list.yaml"
        file.write_text(f"- sports\n- {entry}\n")
        own = {"rows": "rows", "model": "teacher", "labels": str(file), "max_error_rate": 0.5}
        made = Label(stage="label", **own, **settings)
        run = run_stage(made, {"rows": rows(*texts)}, {"teacher": lambda _: "sports"})
        return [each for each in run.warnings if "script" in each]

    russian = "Матч окончен", "Клуб взял кубок", None
    (warning,) = said("arts", *russian)
    assert warning.startswith("the texts of 'rows' are in Cyrillic script, in which ")
    assert said("arts", "クラブは優勝した", "カップ")[0].count("Han or kana") == 1
    for entry in ("{name: arts, examples: [Опера]}", "{name: arts, definition: Опера}", "опера"):
        assert not said(entry, *russian)
    assert not said("体育", "クラブは", "カップ")
    assert not said("arts", *russian, "the club", "won a long match with a cup", "1 : 0")
    assert not said("arts", *russian, abstain="нет")


def test_a_teacher_that_names_no_label_stops_the_run(
    run_stage: Run, stage: Callable[..., Label]
) -> None:
    with pytest.raises(DataError, match="no row of 'rows' got a label of the list: 2 rows without"):
        run_stage(stage(), {"rows": rows("x", "y")}, {"teacher": teacher})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"n": 3}, "several answers are for confidence: samples"),
        ({"confidence": "samples", "n": 1}, "needs n of 2 or more"),
        ({"confidence": "samples", "n": 3}, "the same answer every time"),
        ({"confidence": "likelihood", "several": True}, "with several take samples"),
        ({"calibrate": True}, "calibrate is for confidence: likelihood"),
        ({"several": True, "abstain": "x"}, "abstain is for one label a text"),
        ({"abstain": "Sports"}, "abstain: 'Sports' is a label of the list"),
    ],
)
def test_settings_that_do_not_fit(
    stage: Callable[..., Label], settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError, match=says):
        stage(**settings)


def test_a_list_that_is_not_there() -> None:
    with pytest.raises(ValidationError, match=r"labels: no file 'topics\.yaml'"):
        Label(stage="label", rows="rows", model="teacher", labels="topics.yaml")


def test_two_labels_that_mean_the_same_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "same.yaml"
    file.write_text("- {name: arts, definition: Music}\n- {name: films, definition: ' music.'}\n")
    with pytest.raises(ValidationError, match="'arts' and 'films' have the same definition"):
        Label(stage="label", rows="rows", model="teacher", labels=str(file))
