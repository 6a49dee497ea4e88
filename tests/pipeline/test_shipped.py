"""Every shipped pipeline is valid in every profile."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline, profile_names

FILES = sorted(str(path) for path in (bundled_root() / "pipelines").glob("*.yaml"))


def test_there_are_pipelines() -> None:
    assert FILES


@pytest.mark.parametrize("file", FILES)
def test_valid_in_every_profile(file: str) -> None:
    for profile in (None, *profile_names(file)):
        assert load_pipeline(file, profile=profile).stages


def test_reading_them_all_loads_no_heavy_package() -> None:
    code = (
        "import sys; from llm_distill.pipeline.load import load_pipeline\n"
        "for file in sys.argv[1:]: load_pipeline(file)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'trl'} & set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *FILES], capture_output=True, text=True)
    assert done.stderr.strip() == ""


SIZES = [file for file in FILES if "/arte_controls" in file]
STUDENTS = (
    "original_teacher", "naive_teacher", "rationale_only", "question_only", "one_style",
    "tailored_student",
)  # fmt: skip


ARTE = [(file, profile) for file in SIZES for profile in (None, *profile_names(file))]


@pytest.mark.parametrize(("file", "profile"), ARTE)
def test_arte_and_its_controls_differ_in_their_data_only(file: str, profile: str | None) -> None:
    stages: dict[str, Any] = dict(load_pipeline(file, profile=profile).stages)
    students = [name for name in STUDENTS if name in stages]  # a small file may have fewer
    data = [stages[stages[student].rows] for student in students]
    assert {(select.n, select.per, select.strict) for select in data} == {
        (data[0].n, data[0].per, "paper" not in file)  # there, decontamination may leave too few
    }
    fewest = 3 if "small" in file else 5
    assert len({select.rows for select in data}) == len(students) >= fewest
    checked = [
        stages["original_checked" if student == "original_teacher" else select.rows]
        for student, select in zip(students, data, strict=True)
    ]
    # A stage `verify`, or one that asks and verifies.
    assert len({getattr(check, "verify", check).drop_wrong for check in checked}) == 1
    trained = [stages[student].model_dump(exclude={"rows"}) for student in students]
    assert all(settings == trained[0] for settings in trained)
    assert set(stages["controls"].models) == {"student", *students}


@pytest.mark.parametrize(("file", "profile"), ARTE)
def test_artes_traps_in_the_shipped_files(file: str, profile: str | None) -> None:
    stages: dict[str, Any] = dict(load_pipeline(file, profile=profile).stages)
    # The student is stopped at the next question, and every exam is the same.
    prompts = "small" if "small" in file else "arte"
    exams = ("takers", "in_context_scores", "original_scores", "exam", "controls")
    asked = {(stages[n].template, stages[n].sampling.stop) for n in exams if n in stages}
    assert asked == {(f"{prompts}/exam.jinja", ("\nQuestion:",))}
    students = [stages[name] for name in STUDENTS if name in stages]
    assert {student.prompt_template for student in students} == {f"{prompts}/exam.jinja"}
    # What a student learns from was never seen in the splits, the test split least of all.
    for name in ("draft_questions", "tailored_questions"):
        assert set(stages[name].against) == {"seeds", "validation", "test"}
        assert stages[stages[name].rows].stage == "deduplicate"
    # Prompt erasure: pairs have the plain prompt that the aligned teacher is then asked with.
    assert stages["preferences"].rationale_template == f"{prompts}/rationale.jinja"
    assert stages["tailored_checked"].template == f"{prompts}/rationale.jinja"
    assert stages["tailored_checked"].sampling.temperature == 0
    # A pair of questions answers its own prompt: one question is asked for, one is given.
    assert stages["drafts"].variables.get("n_questions", 1) == 1
    # Enough seeds for a prompt's examples; the paper's tasks have ten each.
    assert stages["drafts"].examples.n < (10 if "paper" in file else 24)


def scoring_of(name: str, stages: dict[str, Any]) -> Any:
    """The stage that scored these rows, on the way back through what their rows come from."""
    while name in stages and stages[name].stage != "score_likelihood":
        rows = getattr(stages[name], "rows", "")
        name = rows if isinstance(rows, str) else rows[0]  # of a mixture
    return stages.get(name)


@pytest.mark.parametrize("file", FILES)
def test_a_teacher_reads_the_prompt_that_its_scores_are_of(file: str) -> None:
    for profile in (None, *profile_names(file)):
        stages: dict[str, Any] = dict(load_pipeline(file, profile=profile).stages)
        for name, student in stages.items():
            if student.stage != "train_distill" or not student.from_teacher() or student.online:
                continue
            scoring = scoring_of(student.rows, stages)
            assert scoring is not None, name
            asked = student.teacher_prompt_template or student.prompt_template
            assert (profile, name, asked) == (profile, name, scoring.prompt_template)
            for setting in (
                "variables",
                "completion_column",
                "messages_column",
                "text_column",
            ):
                found, expected = getattr(student, setting), getattr(scoring, setting)
                assert (profile, name, setting, found) == (profile, name, setting, expected)
            assert student.teacher == scoring.model


ALM_CONTROLS = [file for file in FILES if "/alm_controls" in file]


@pytest.mark.parametrize("file", ALM_CONTROLS)
def test_alm_and_its_controls_differ_in_their_loss_only(file: str) -> None:
    stages: dict[str, Any] = dict(load_pipeline(file).stages)
    alone = [stages[name] for name in ("alm_1", "alm_5", "alm_100", "alm_biased")]
    assert [(s.alm.temperature, s.alm.debias) for s in alone] == [
        (1, True), (5, True), (100, True), (1, False),
    ]  # fmt: skip
    own = {"losses", "combine", "alm"}
    assert stages["alm_fixed"].losses.weights() == {"alm": 1.0, "sft": 1.0}
    assert stages["alm_fixed"].combine == "fixed"
    expected = stages["alm_student"].model_dump(exclude=own)
    for student in alone:
        assert student.losses.weights() == {"alm": 1.0}
        assert student.combine == "fixed"
    for student in (*alone, stages["alm_fixed"]):
        assert student.model_dump(exclude=own) == expected
    other = {*own, "teacher", "teacher_prompt_template", "learning_rate"}
    assert stages["sft_student"].model_dump(exclude=other) == {
        name: value for name, value in expected.items() if name not in other
    }
    exam = stages["exam"].model_dump(exclude={"models"})
    assert stages["controls"].model_dump(exclude={"models"}) == exam


def test_ddk_and_its_controls_differ_in_shares_and_loss_only() -> None:
    stages: dict[str, Any] = dict(load_pipeline("pipelines/ddk_controls.yaml").stages)
    guesses: dict[str, Any] = dict(load_pipeline("pipelines/ddk_guesses.yaml").stages)
    own = {"rows", "model", "losses"}
    for number in (1, 2, 3):
        ddk = stages[f"taught@{number}"]
        for name in ("equal_kd", "equal_ce", "oracle", "by_loss"):
            other = stages[f"{name}@{number}"]
            assert ddk.model_dump(exclude=own) == other.model_dump(exclude=own), name
            assert (ddk.losses == other.losses) == (name != "equal_ce")
            assert other.model == ("started" if number == 1 else f"{name}@{number - 1}")
            assert stages[ddk.rows].n == stages[other.rows].n == 128
        kept = {"rows", "model"}
        for of in (stages, guesses):
            by_loss = of[f"by_loss@{number}"].model_dump(exclude=kept)
            assert by_loss == of[f"taught@{number}"].model_dump(exclude=kept)
    last = ["shares_ce_1", "shares_ce_2", "shares_ce"]
    assert [stages[name].rows for name in last] == ["drawn@1", "drawn@2", "drawn@3"]
    assert [stages[name].model for name in last] == ["started", *last[:2]]


@pytest.mark.parametrize("file", FILES)
def test_a_hosted_model_is_not_asked_for_what_vllm_alone_can(file: str) -> None:
    """A choice or an expression goes in vLLM's own field; a JSON schema, of annotate, does not."""
    pipeline = load_pipeline(file)
    hosted = {
        name
        for name, model in pipeline.models.items()
        if "api.openai.com" in str(getattr(model.engine, "base_url", ""))
    }
    for name, stage in pipeline.stages.items():
        if str(getattr(stage, "model", "")) in hosted and stage.stage != "annotate":
            assert not getattr(stage, "constrain", False), name
