"""rollout_report: planted rounds are told apart; scores of the bundled models are compared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from llm_distill.distillation.alignment.encoding import in_loss, row_encoder
from llm_distill.errors import DataError
from llm_distill.evaluation.results import Results
from llm_distill.models.sources import ModelSource
from llm_distill.stages.rollout_report import RolloutReport
from llm_distill.stages.score_likelihood import ScoreLikelihood

Run = Callable[..., Any]

TEACHER = ModelSource("teacher", "data/models/tiny-teacher")
STUDENT = ModelSource("student", "data/models/tiny-student", prompt_format="text")
MODELS = {"teacher": TEACHER, "student": STUDENT}
ROWS: list[dict[str, Any]] = [
    {
        "id": f"q{i}-{j}",
        "parent_id": f"q{i}",
        "prompt": f"Question: Yara has {i + 9} books and loses {i}. How many are left?\nAnswer:",
        "completion": ["9 books are left. <ans>9</ans>", "The answer: é <ans>9"][j],
        "finish_reason": ["stop", "length"][j],
        "error": None,
    }
    for i in range(3)
    for j in range(2)
]


@pytest.fixture
def report(run_stage: Run) -> Run:
    def run(rows: dict[str, list[dict[str, Any]]], **settings: Any) -> Any:
        stage = RolloutReport.model_validate(
            {"stage": "rollout_report", "rows": "written", **settings}
        )
        return run_stage(stage, rows, models=MODELS)

    return run


@pytest.fixture
def scored(run_stage: Run) -> Run:
    """The rows with a model's scores, as the stage leaves them."""

    def run(model: str, rows: list[dict[str, Any]] = ROWS, **settings: Any) -> list[Any]:
        stage = ScoreLikelihood(
            stage="score_likelihood", rows="rows", model=model, device="cpu",
            **{"truncated": "open", **settings},
        )  # fmt: skip
        found: list[Any] = run_stage(stage, {"rows": rows}, models=MODELS).rows
        return found

    return run


def written(text: str, n: int, number: int = 1, finish: str = "stop") -> list[dict[str, Any]]:
    return [
        {"id": f"{number}-{finish}-{len(text)}-{i}", "completion": text, "finish_reason": finish,
         "round": number, "error": None}
        for i in range(n)
    ]  # fmt: skip


def test_round_by_round_the_rows_before_are_passed_on(report: Run) -> None:
    first = report({"written": written("It is 4.", 30)})
    assert first.rows[0]["id"] == "round 1"
    assert {k: first.rows[0][k] for k in ("round", "n_rows", "truncated", "reverse_kl")} == {
        "round": 1, "n_rows": 30, "truncated": 0.0, "reverse_kl": None,
    }  # fmt: skip
    second = report(
        {"written": written("It is 4, or 5?", 30), "before": first.rows}, before="before"
    )
    assert second.rows[0] == first.rows[0]
    assert [row["round"] for row in second.rows] == [1, 2]
    (table,) = Results.from_metrics(second.metrics).own
    assert table.columns == ("round", "rows", "characters", "cut", "empty", "repeated")
    assert table.cells[1] == ("2", "30", "14", "0.0%", "0.0%", "0.0%")
    long = written("It is 4, or 5, or 6?", 30)  # 1.4 times as long as in the round before
    with pytest.raises(DataError, match=r"(?s)round 3: texts have 20 characters, 2\.5.*round 1: "):
        report({"written": long, "before": second.rows}, before="before")


def test_a_bad_round_stops_with_figures_and_what_to_do(report: Run) -> None:
    good = written("It is 4.", 40)
    cut = written("It is", 30) + written("It is and so", 10, finish="length")
    loops = written("It is 4.", 15) + written("so we add " * 20, 25)
    before = {"before": report({"written": good}).rows}
    with pytest.raises(DataError) as stopped:
        report({"written": cut, **before}, before="before")
    assert stopped.value.exit_code == 3
    said = str(stopped.value)
    assert said.startswith("round 2: 25.0% of the texts are cut by max_tokens, and 0.0% were in")
    for part in ("lower learning_rate", "row 1-length-12-0", "set it to null", "round 1: rows 40"):
        assert part in said
    with pytest.raises(DataError, match="max_repetition: 0.4"):
        report({"written": loops})
    report({"written": cut, **before}, before="before", max_truncated=None)
    report({"written": loops}, max_repetition=0.9)


def test_a_student_that_has_gone_silent_stops_it_in_the_first_round_too(report: Run) -> None:
    silent = written("It is 4.", 10) + written(" ", 15)
    with pytest.raises(DataError, match=r"60\.0% of the texts hold nothing \(max_empty: 0\.5\)"):
        report({"written": silent})
    report({"written": silent}, max_empty=None)
    report({"written": written("It is 4.", 15) + written(" ", 15)})


def test_what_is_cut_from_the_start_is_a_warning(report: Run) -> None:
    run = report({"written": written("It is 4.", 30, finish="length")})
    (warning,) = run.warnings
    assert "100.0% of the texts are cut by max_tokens" in warning


def test_groups_and_rounds_are_columns_of_the_rows(report: Run) -> None:
    rows = [
        {**row, "teacher": teacher}
        for teacher, texts in (("math", ("4.", "4. So it is 4")), ("code", ("x = 4", "x = 5")))
        for number, text in enumerate(texts, 1)
        for row in written(text, 25, number)
    ]
    run = report({"written": rows}, by=["round", "teacher"], max_growth=None)
    assert [row["id"] for row in run.rows] == [
        "round 1, code", "round 1, math", "round 2, code", "round 2, math"
    ]  # fmt: skip
    assert {row["teacher"]: row["mean_characters"] for row in run.rows if row["round"] == 2} == {
        "code": 5.0, "math": 13.0
    }  # fmt: skip
    # Each group is compared with its own first round.
    with pytest.raises(DataError, match=r"round 2, math: texts have 13 characters, 6\.5 times"):
        report({"written": rows}, by=["round", "teacher"])
    rows[3]["round"] = None
    with pytest.raises(DataError, match="row 1-stop-2-3 of 'written': round is None"):
        report({"written": rows}, by=["round"])


def test_failed_rows_are_counted_and_empty_ones_are_rollouts(report: Run) -> None:
    failed = {"id": "f", "completion": None, "finish_reason": "error", "round": 1, "error": "500"}
    run = report({"written": [failed, *written(" ", 1), *written("It is 4.", 3)]})
    assert run.dropped == {"the model failed": 1}
    assert (run.rows[0]["n_rows"], run.rows[0]["empty"]) == (4, 0.25)
    with pytest.raises(DataError, match="a model failed on each"):
        report({"written": [failed]})


def test_across_tokenizers_all_that_is_said_is_compared(report: Run, scored: Run) -> None:
    of_teacher, of_student = scored("teacher"), scored("student")
    run = report(
        {"written": ROWS, "t": of_teacher, "s": of_student},
        teacher="teacher", student="student", teacher_scores="t", student_scores="s",
        truncated="open",
    )  # fmt: skip
    (row,) = run.rows
    # Every token of either side is in a chunk, so the sums are those of the rows.
    nats = sum(sum(r["teacher_logps"]) for r in of_student)
    nats -= sum(sum(r["teacher_logps"]) for r in of_teacher)
    n_tokens = sum(len(r["teacher_logps"]) for r in of_student)
    n_bytes = sum(len(r["completion"].encode()) for r in ROWS)
    assert row["n_compared"] == 6
    assert row["reverse_kl"] == pytest.approx(nats / n_tokens, rel=1e-5)
    assert row["reverse_kl_per_byte"] == pytest.approx(nats / n_bytes, rel=1e-5)
    assert row["reverse_kl_low"] < row["reverse_kl"] < row["reverse_kl_high"]
    assert row["ess"] is None
    assert row["shared_tokens"] is None
    places = Results.from_metrics(run.metrics).places
    assert len(places) == 10
    gaps = [abs(place.gap) for place in places]
    assert gaps == sorted(gaps, reverse=True)
    assert all(place.place.count("⟦") == 1 for place in places)


def test_a_model_beside_itself_differs_in_nothing(report: Run, scored: Run) -> None:
    same = scored("teacher", top_k=3)
    run = report(
        {"written": ROWS, "t": same, "s": same},
        teacher="teacher", student="teacher", teacher_scores="t", student_scores="s",
        truncated="open",
    )  # fmt: skip
    (row,) = run.rows
    assert row["reverse_kl"] == row["reverse_kl_per_byte"] == 0
    assert row["shared_tokens"] == row["shared_of_teacher"] == row["shared_of_student"] == 1
    assert not [warning for warning in run.warnings if "find likely" in warning]


def test_models_that_think_otherwise_are_warned_of(report: Run, scored: Run) -> None:
    of_teacher, of_student = scored("teacher", top_k=5), scored("student", top_k=4)
    given = {
        "teacher": "teacher", "student": "student", "teacher_scores": "t", "student_scores": "s",
        "truncated": "open",
    }  # fmt: skip
    rows = {"written": ROWS, "t": of_teacher, "s": of_student}
    run = report(rows, min_shared=0.999, **given)
    row = run.rows[0]
    low = min(row["shared_of_teacher"], row["shared_of_student"])
    assert 0 < low < 0.999
    assert f"as little as {low:.0%} lies on tokens that both find likely" in run.warnings[-1]
    assert "train_sft" in run.warnings[-1]
    assert [row[name] for name in SHARED] == pytest.approx(by_hand(of_teacher, of_student), 1e-5)


SHARED = ("shared_tokens", "shared_of_teacher", "shared_of_student")


def by_hand(of_teacher: list[Any], of_student: list[Any]) -> list[float]:
    """Place by place and token by token: the bytes that either puts first, and how likely."""
    found = []
    for row, *scores in zip(ROWS, of_teacher, of_student, strict=True):
        begins = []  # by byte of the text, the likeliest tokens of what begins there
        for source, scored in zip((TEACHER, STUDENT), scores, strict=True):
            encoder = row_encoder(source, None)
            text, ids = encoder.table.text, scored["teacher_top_ids"]
            k = len(ids) // len(scored["teacher_logps"])
            turns = [{"role": "user", "content": row["prompt"]},
                     {"role": "assistant", "content": row["completion"]}]  # fmt: skip
            encoded = encoder.encode(turns, is_open=row["finish_reason"] == "length")
            at, places = 0, {}
            for number, place in enumerate(in_loss(encoded)):
                likely = slice(number * k, (number + 1) * k)
                places[at] = {
                    b"" if i in encoder.pairs.ends else text([i]): np.exp(p)
                    for i, p in zip(ids[likely], scored["teacher_top_logps"][likely], strict=True)
                }
                written = text([encoded.ids[place]])
                at += len(written.lstrip()) if at == 0 else len(written)
            begins.append(places)
        for at in sorted(begins[0].keys() & begins[1].keys() - {0}):  # a chat has no space there
            p, q = begins[0][at], begins[1][at]
            both = p.keys() & q.keys()
            found.append([
                len(both) / len(p),
                sum(p[token] for token in both) / sum(p.values()),
                sum(q[token] for token in both) / sum(q.values()),
            ])  # fmt: skip
    return [float(mean) for mean in np.mean(found, 0)]


def test_what_the_student_wrote_with_is_compared_and_weighed(report: Run, scored: Run) -> None:
    encoder = row_encoder(STUDENT, None)
    of_teacher, of_student = scored("teacher"), scored("student")
    rows = []
    for row, own in zip(ROWS, of_student, strict=True):
        turns = [
            {"role": "user", "content": row["prompt"]},
            {"role": "assistant", "content": row["completion"]},
        ]
        encoded = encoder.encode(turns, is_open=row["finish_reason"] == "length")
        ids = encoded.ids[in_loss(encoded)].tolist()
        rows.append({**row, "completion_ids": ids, "rollout_logps": list(own["teacher_logps"])})
    rows[0]["completion_ids"][0] += 1  # what was sampled is read as other tokens
    given = {"teacher": "teacher", "student": "student", "truncated": "open"}
    run = report({"written": rows, "t": of_teacher}, teacher_scores="t", **given)
    assert "read as other tokens than were written: 1" in run.warnings[0]
    (row,) = run.rows
    assert (row["n_compared"], row["ess"]) == (5, None)
    assert row["mean_tokens"] == np.mean([len(r["completion_ids"]) for r in rows])
    fresh = report(
        {"written": rows, "t": of_teacher, "s": of_student},
        teacher_scores="t", student_scores="s", **given,
    ).rows[0]  # fmt: skip
    assert (fresh["n_compared"], fresh["ess"]) == (6, 1.0)
    for each in rows:  # the student has moved since it wrote these
        each["rollout_logps"][0] -= 3.0
    stale = report(
        {"written": rows, "t": of_teacher, "s": of_student},
        teacher_scores="t", student_scores="s", **given,
    ).rows[0]  # fmt: skip
    n = sum(len(r["rollout_logps"]) for r in rows[1:])
    expected = (n - 5 + 5 * np.e**3) ** 2 / (n * (n - 5 + 5 * np.e**6))
    assert stale["ess"] == pytest.approx(expected, rel=1e-5)


def test_scores_of_others_are_refused_and_missing_ones_counted(report: Run, scored: Run) -> None:
    of_teacher, of_student = scored("teacher"), scored("student")
    given = {
        "teacher": "teacher", "student": "student", "teacher_scores": "t", "student_scores": "s"
    }  # fmt: skip
    rows = {"written": ROWS, "t": of_teacher, "s": of_student}
    with pytest.raises(DataError, match=r"q0-1 of 's' is not what was scored: give prompt_templ"):
        report(rows, **given)  # the cut ones were scored open
    with pytest.raises(DataError, match=r"row q0-0 of 't' was scored by tiny-student"):
        report({**rows, "t": of_student}, truncated="open", **given)
    run = report({**rows, "s": of_student[1:]}, truncated="open", **given)
    assert (
        "1 of 6 rollouts are not in the comparison (not scored by the student: 1)"
        in (run.warnings[0])
    )
    others = [{**row, "id": f"other {row['id']}"} for row in of_student]
    with pytest.raises(DataError, match="no row of 'written' can be compared"):
        report({**rows, "s": others}, truncated="open", **given)


def test_of_several_teachers_each_row_has_its_own(report: Run, scored: Run) -> None:
    rows = [{**row, "teacher": "a" if i < 3 else "b"} for i, row in enumerate(ROWS)]
    both = [*scored("teacher", rows[:3]), *scored("student", rows[3:])]
    run = report(
        {"written": rows, "t": both, "s": scored("student", rows)},
        teacher=["teacher", "student"], student="student", teacher_scores="t",
        student_scores="s", truncated="open", by=["teacher"],
    )  # fmt: skip
    found = {row["teacher"]: row["reverse_kl"] for row in run.rows}
    assert found["b"] == pytest.approx(0, abs=1e-5)
    assert abs(found["a"]) > 0.01


def test_of_a_conversation_every_turn_of_the_assistant_counts(report: Run, scored: Run) -> None:
    said = ["9.", "No, 8."]
    turns = [
        {"role": role, "content": text}
        for asked, answer in zip(("How many?", "Sure?"), said, strict=True)
        for role, text in (("user", asked), ("assistant", answer))
    ]
    rows = [{"id": "a", "messages": turns, "completion": said[-1], "finish_reason": "stop"}]
    settings = {"messages_column": "messages", "truncated": "close"}
    own = scored("teacher", rows, **settings)
    other = [{**own[0], "teacher_logps": [p - 1.0 for p in own[0]["teacher_logps"]]}]
    run = report(
        {"written": rows, "t": other, "s": own}, teacher="teacher", student="teacher",
        teacher_scores="t", student_scores="s", **settings,
    )  # fmt: skip
    assert run.rows[0]["reverse_kl"] == pytest.approx(1.0, abs=1e-5)
    assert run.rows[0]["mean_characters"] == len(said[-1])
    places = {place.place for place in Results.from_metrics(run.metrics).places}
    assert {"9.⟦⟨end⟩⟧", "No, 8.⟦⟨end⟩⟧", "No,⟦ 8⟧."} <= places


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"teacher": "m"}, "teacher and student come together"),
        ({"teacher_scores": "s"}, "needs teacher and student"),
        ({"text_column": "text"}, "text_column: rollouts are what a model wrote"),
        ({"by": ["truncated"]}, "none of truncated"),
        ({"by": ["a", "a"]}, "each column once"),
        ({"by": ["round"], "before": "b"}, "before counts the rounds"),
        ({"max_growth": 1.0}, "greater than 1"),
    ],
)
def test_settings_that_do_not_fit(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RolloutReport.model_validate({"stage": "rollout_report", "rows": "r", **settings})
