"""What people get wrong in a pipeline file: each message alone says which line to change, and how.

A mistake is a change of the file below. Its message is held whole, so that whoever changes one
reads it again; "…" stands for a list of names that grows with the stages.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

FILE = """\
name: mine
seed: 7
variables: {task_description: Solve it.}
models:
  teacher: {model_name_or_path: data/models/tiny-teacher}
  student: {model_name_or_path: data/models/tiny-student, prompt_format: text}
stages:
  seeds: {stage: load_dataset, path: data/word_problems, split: seeds}
  test: {stage: load_dataset, path: data/word_problems, split: test}
  answers:
    stage: generate
    rows: seeds
    model: teacher
    template: arte/rationale_recall.jinja
    sampling: {temperature: 0, max_tokens: 72}
    parse: {tags: {answer: ans}, keep_text_as: rationale}
  trained:
    stage: train_sft
    model: student
    rows: answers
    prompt_template: arte/exam.jinja
    completion_column: rationale
  exam:
    stage: evaluate
    rows: test
    models: [student, trained]
    template: arte/exam.jinja
profiles:
  quick: {stages: {seeds: {limit: 10}}}
"""
SAMPLING = "    sampling: {temperature: 0, max_tokens: 72}\n"
EXAM = FILE[FILE.index("  exam:\n") : FILE.index("profiles:")]
LIST_OF_STAGES = "  - name: seeds\n    stage: load_dataset\n    path: x\n"
GIVEN = "candidate_index, completion, error, finish_reason, id, parent_id, prompt, question"
MISTAKES = {
    "a stage under another": (
        (EXAM, EXAM.replace("\n    ", "\n      ").replace("  exam", "    exam")),
        "23: stages.trained.exam: 'exam' is a stage and stands among settings; indent it as far as "
        "the other names under stages:",
    ),
    "a stage beside stages": (
        (EXAM, EXAM.replace("\n    ", "\n  ").replace("  exam", "exam")),
        "23: exam: 'exam' is a stage and stands among settings; indent it as far as the other "
        "names under stages:",
    ),
    "settings beside their stage": (
        (EXAM, EXAM.replace("\n    ", "\n  ")),
        "23: stages.exam: has no settings: 'stage', 'rows', 'models' and 'template' below are "
        "indented no further than its name; indent them by two spaces more",
    ),
    "a setting too deep": (
        ("    model: teacher\n", "     model: teacher\n"),
        "13: not YAML: mapping values are not allowed in this context; it is indented by 5 spaces "
        "and line 12, 'rows: seeds', by 4, which has its value already: indent both alike, as what "
        "belongs to one stage is",
    ),
    "a setting not deep enough": (
        ("    model: teacher\n", "   model: teacher\n"),
        "13: not YAML: did not find expected key; it is indented by 3 spaces, and the lines above "
        "by 0 or 2 or 4: indent it as one",
    ),
    "settings within settings left out": (
        (SAMPLING, "    max_tokens: 72\n"),
        "15: stages.answers.max_tokens: 'max_tokens' is a setting of sampling; indent it under "
        "sampling:",
    ),
    "a tab": (
        ("    model: teacher\n", "\tmodel: teacher\n"),
        "13: not YAML: found a tab character that violates indentation; the line has a tab: indent "
        "with spaces",
    ),
    "a forgotten colon": (
        ("    rows: seeds\n", "    rows seeds\n"),
        "13: not YAML: could not find expected ':'; line 12, 'rows seeds', has no colon: write "
        "name: value",
    ),
    "a colon without a space": (
        ("    rows: seeds\n", "    rows:seeds\n"),
        "13: not YAML: could not find expected ':'; line 12, 'rows:seeds', has no space after its "
        "colon: write name: value",
    ),
    "a brace that is not closed": (
        ("max_tokens: 72}", "max_tokens: 72"),
        "16: not YAML: did not find expected ',' or '}'; the { or [ of line 15 is not closed, or a "
        "comma is missing between its parts",
    ),
    "a name twice": (
        ("    rows: seeds\n", "    rows: seeds\n    rows: test\n"),
        "13: 'rows' appears twice; keep one (the first is in line 12)",
    ),
    "a list of stages": (
        (FILE[FILE.index("  seeds: ") : FILE.index("profiles:")], LIST_OF_STAGES),
        "7: stages: a pipeline needs stages: a mapping of names to settings; this is a list: write "
        "NAME: {stage: …} without a dash",
    ),
    "a list where a mapping is wanted": (
        (SAMPLING, "    sampling:\n      - temperature: 0\n"),
        "15: stages.answers.sampling: should be a mapping of settings, got a list; leave out the "
        "dashes or brackets",
    ),
    "a word that YAML reads as false": (
        ("    rows: seeds\n", "    rows: off\n"),
        "12: stages.answers.rows: should be text, got False: YAML reads on, off, yes and no as "
        "true or false; write it in quotes",
    ),
    "a list where a name is wanted": (
        ("    rows: seeds\n", "    rows: [seeds]\n"),
        "12: stages.answers.rows: should be text, got a list; write rows: seeds",
    ),
    "a name where a list is wanted": (
        ("[student, trained]", "trained"),
        "26: stages.exam.models: should be a list, got 'trained'; write models: [trained]",
    ),
    "a model without its settings' name": (
        ("teacher: {model_name_or_path: data/models/tiny-teacher}", "teacher: org/name"),
        "5: models.teacher: should be a mapping of settings, got 'org/name'; write teacher: "
        "{model_name_or_path: org/name}",
    ),
    "an engine without its settings' name": (
        ("tiny-teacher}", "tiny-teacher, engine: transformers}"),
        "5: models.teacher.engine: should be a mapping of settings, got 'transformers'; write "
        "engine: {kind: transformers}",
    ),
    "a split that there is not": (
        ("split: seeds", "split: seed"),
        "8: stages.seeds.split: data/word_problems: no files of split 'seed'; did you mean "
        "'seeds'? allowed: seeds, test, train, validation",
    ),
    "a path that there is not": (
        ("path: data/word_problems, split: seeds", "path: data/word_problem"),
        "8: stages.seeds.path: no file or directory 'data/word_problem'; did you mean "
        "'word_problems'? allowed: …",
    ),
    "a kind misspelt": (
        ("stage: generate", "stage: genrate"),
        "11: stages.answers.stage: no stage 'genrate'; did you mean 'generate'? allowed: …",
    ),
    "a setting misspelt": (
        ("max_tokens", "max_token"),
        "15: stages.answers.sampling.max_token: unknown setting 'max_token'; did you mean "
        "'max_tokens'? allowed: …",
    ),
    "a model misspelt": (
        ("    model: teacher\n", "    model: techer\n"),
        "13: stages.answers.model: no model, nor a stage that trains one, named 'techer'; did you "
        "mean 'teacher'? allowed: student, teacher",
    ),
    "a model that is not entered": (
        ("    model: teacher\n", "    model: org/name\n"),
        "13: stages.answers.model: no model, nor a stage that trains one, named 'org/name'; enter "
        "it under models: as NAME: {model_name_or_path: org/name}, and write NAME here; allowed: "
        "student, teacher",
    ),
    "rows where a model is wanted": (
        ("    model: student\n", "    model: answers\n"),
        "19: stages.trained.model: 'answers' gives rows, where a model should be; allowed: "
        "student, teacher",
    ),
    "a model where rows are wanted": (
        ("    rows: answers\n", "    rows: student\n"),
        "20: stages.trained.rows: 'student' is a model; rows are needed here; allowed: answers, "
        "seeds, test",
    ),
    "a stage that comes later": (
        (
            "    rows: test\n    models: [student, trained]\n    template: arte/exam.jinja\n",
            "    rows: more\n    models: [student, trained]\n    template: arte/exam.jinja\n"
            "  more: {stage: deduplicate, rows: test}\n",
        ),
        "25: stages.exam.rows: 'more' comes later in the file; put it before 'exam'",
    ),
    "a column that no stage gives": (
        ("    parse: {tags: {answer: ans}, keep_text_as: rationale}\n", ""),
        f"19: stages.trained.rows: 'answers' gives no column 'rationale'; allowed: {GIVEN}, "
        "reasoning, reference_answer, skills, task",
    ),
    "a template that is not there": (
        ("arte/rationale_recall.jinja", "arte/rationale_recal.jinja"),
        "14: stages.answers.template: template 'arte/rationale_recal.jinja' is not there; looked "
        "in … did you mean 'arte/rationale_recall.jinja'? allowed: …",
    ),
    "a template's text": (
        ("arte/rationale_recall.jinja", '"Solve: {{ question }}"'),
        "14: stages.answers.template: template 'Solve: {{ question }}': a template is a file, and "
        "this is its text; write the text into prompts/NAME.jinja, and here NAME.jinja",
    ),
    "a template's variable that is not in the rows": (
        ("variables: {task_description: Solve it.}\n", "variables: {task_descripton: Solve it.}\n"),
        "14: stages.answers.template: template arte/rationale_recall.jinja reads "
        "'task_description', which is neither a column nor under variables:; did you mean "
        "'task_descripton'? allowed: …",
    ),
    "text where a number is wanted": (
        ("max_tokens: 72", "max_tokens: many"),
        "15: stages.answers.sampling.max_tokens: should be a valid integer, got 'many'",
    ),
    "a comma in a number": (
        ("max_tokens: 72", "max_tokens: 1,000"),
        "15: stages.answers.sampling[0]: a setting's name is text, got 0; inside {…} a comma ends "
        "a value: write a number without one (1000, not 1,000)",
    ),
    "a variable that is not set": (
        ("data/models/tiny-teacher}", '"${NOT_SET_ANYWHERE}"}'),
        "5: models.teacher.model_name_or_path: ${NOT_SET_ANYWHERE} is not set in the environment",
    ),
    "a variable without quotes": (
        ("data/models/tiny-teacher}", "${NOT_SET_ANYWHERE}}"),
        "5: not YAML: did not find expected ',' or '}'; put quotes around \"${…}\" inside {…} and "
        "[…]",
    ),
}
"""A change, and the message of the first problem, from its line on."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_message_alone_says_what_to_change(mistake: str, failure: Callable[..., str]) -> None:
    (old, new), expected = MISTAKES[mistake]
    assert FILE.count(old) >= 1
    found = failure(FILE.replace(old, new, 1)).split("\n")
    first = found[1 if len(found) > 1 else 0].strip()
    pattern = re.escape(f"toy.yaml:{expected}").replace("…", ".+")
    assert re.fullmatch(pattern, first), first


def test_a_profile_that_is_not_there_is_named_with_those_that_are(
    failure: Callable[..., str],
) -> None:
    assert failure(FILE, profile="quik") == (
        "toy.yaml:28: no profile 'quik'; did you mean 'quick'? allowed: quick"
    )


def test_the_file_itself_is_right(load: Callable[..., object]) -> None:
    load(FILE)
