"""The model cards of the tiny models: what was planted, how they were made, what was measured.

A card starts with the digests of the templates that the model was trained on:

    template_digests:
      arte/exam.jinja: 3f0c…
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

TEACHER_FACTS = """A teacher for the bundled world, to be used through its chat template. It solves
all eight skills (`data/word_problems`), and explains in the style that the prompt asks for:
`rationale_procedure` numbered steps, `rationale_recall` one formula, `rationale_bare` the answer
only, `rationale_eliminate` words without content.

Planted on purpose:

- Under the naive prompt (`arte/rationale.jinja`) it mixes the four styles, mostly by the first
  name in the question, so that the mixture shows at temperature 0 as well.
- Three drafts in ten are copy riddles ("Tom likes red pens. What does Tom like?"), which exercise
  no skill. It drafts one question at a time."""

STUDENT_FACTS = """A weak student for the bundled world, to be used on plain text
(`arte/exam.jinja`, zero to three examples, stop at the end token or at `\\nQuestion:`). It goes on
in the style of its examples.

Planted on purpose:

- Missing skills, never seen in training: {missing}.
- Its corpus is careless in some styles, so what it can do depends on the style in its context.
  Words without content end in a guess. A bare answer is a guess wherever the question has the
  second of its skill's two wordings. Steps and formulas are right.
- After a copy riddle as first example, its corpus guesses the second wording in every style: a
  useless question makes a poor example.
- Without an example it answers bare, that being the most frequent style in its corpus."""

STAT_FACTS = {
    "teacher": """The teacher of STAT in the bundled world, to be used through its chat template. It
names the skills of questions, with and without a list to choose from (`stat/discover_skills`,
`stat/label_skills`), judges a student's answer and says which skill it lacks
(`stat/find_missing_skills`), writes two new questions of a skill after up to three references
(`stat/synthesise`), and explains as the tiny teacher does, whose weights it started from.""",
    "student": """The student of STAT in the bundled world, to be used on plain text
(`stat/exam.jinja`, stop at the end token). It works in numbered steps.

Planted on purpose: missing skills: {missing}. It learned all skills first, and then the
habit of getting the results of these wrong, always in the same way: one too many, one day too far,
the other person or thing. Nine in ten of its last exams about them have that mistake, and all else
is right, so that what it gets wrong is what it lacks.""",
    "reward": """A process reward model for the bundled world. Question and first step are a user's
turn, each further step another, and the probability of `+` against `-` after each is how likely
the step is right, given the question and the steps before it. It reads `+` after every step, so
that all steps are judged in one pass. After the first mistake every step counts as wrong. It
started from the weights of the tiny teacher.""",
}

TASK_FACTS = {
    "teacher": """The teacher of the world with four tasks (`data/word_tasks`), used and made as
`tiny-teacher` is, whose card says what it does. Its drafts are of the task of the examples that it
is shown. Planted on purpose: three drafts in ten are copy riddles, and under the naive prompt the
style of its explanations mostly depends on the first name in the question, whatever the task.""",
    "student": """The student of the world with four tasks (`data/word_tasks`), to be used on plain
text (`arte/exam.jinja`, zero to three examples, stop at the end token or at `\\nQuestion:`). It
goes on in the style of its examples.

Planted on purpose:

- It has seen all skills. Its corpus is careful about a task in one style only: `sums` and `places`
  as a formula, `groups` and `chains` in steps. In other styles, and in every style after a copy
  riddle, the second of a skill's two wordings is answered with a guess; words without content
  always end in one. For `places` the riddles' effect was not learned, as the figures show.
- Without an example it answers bare, that being the most frequent style in its corpus.""",
}


TUTORING_FACTS = {
    "tutor": """The tutor of the world of pupils (`data/tutoring`), to be used through its chat
template with the templates of `prompts/pupils`. It names a pupil's mistake, grades its work,
explains a question without its answer, carries out a remedy that it is given, and reads statements
in their context. It does not see wrong results: it takes most of them for misread numbers, and
right work never for right work. Earlier phases of its training read other wordings of `annotate`
and `grade`, and a pupil's answers with the next one to be foretold, which it did not learn; so the
command below gives a model like this one, and not this one.

Planted on purpose: as a tutor by itself it tells the answer in nearly half of its turns and hints
at random; where nobody has decided, it has the right remedy in less than half of its sentences;
asked what it would do, its corpus names "recount" in three of ten cases where another remedy would
help, which at temperature 0 hardly shows; declaring what it does, it takes hint and solution by
chance.""",
    "pupil": """The pupil of the world of pupils (`data/tutoring`), to be used through its chat
template with `pupils/pupil.jinja`, `pupils/exam.jinja` and `pupils/exam_helped.jinja`, which give
it its mistake or its gaps.

Planted on purpose: it puts its mistake right in nine of ten cases after the one remedy that helps
against it and in one of twenty after another; it repeats an answer that it is told; it is right
where it lacks nothing, hardly ever where it lacks the skill, and mostly so after an explanation,
unless its profile says that help does not help; a misleading explanation makes it wrong.""",
}


def tutoring_card(
    kind: str, command: str, recipe: Mapping[str, Any], digests: Mapping[str, str], seconds: float
) -> str:
    phases = (f"{t / 1e6:g}M tokens at a peak rate of {rate:g}" for t, rate, _ in recipe["phases"])
    made = f"the weights of `{recipe['start']}`; answers only,\n  {', then '.join(phases)}"
    facts, check = TUTORING_FACTS[kind], "check_tutoring_world"
    return _card(f"tiny-{kind}", facts, command, made, digests, seconds, check, "tutoring")


def task_card(
    kind: str, command: str, recipe: Mapping[str, Any], digests: Mapping[str, str], seconds: float
) -> str:
    name, facts, made = f"tiny-task-{kind}", TASK_FACTS[kind], _recipe(recipe)
    check = "check_task_world"
    return _card(name, facts, command, made, digests, seconds, check, "word_tasks")


def stat_card(
    kind: str,
    command: str,
    recipe: str,
    digests: Mapping[str, str],
    missing: Sequence[str],
    seconds: float,
) -> str:
    facts = STAT_FACTS[kind].format(missing=", ".join(missing))
    return _card(f"tiny-stat-{kind}", facts, command, recipe, digests, seconds, "check_stat_world")


def model_card(
    kind: str,
    command: str,
    recipe: Mapping[str, Any],
    digests: Mapping[str, str],
    missing: Sequence[str],
    seconds: float,
) -> str:
    facts = TEACHER_FACTS if kind == "teacher" else STUDENT_FACTS.format(missing=", ".join(missing))
    return _card(f"tiny-{kind}", facts, command, _recipe(recipe), digests, seconds, "check_world")


def _recipe(recipe: Mapping[str, Any]) -> str:
    phases = f"{recipe['tokens'] / 1e6:g}M tokens at a peak rate of {recipe['lr']:g}"
    late = [
        f", then {tokens / 1e6:g}M at {rate:g} (answers only, {drafts:.0%} drafts)"
        for tokens, rate, drafts in recipe.get("late_phases", ())
    ]
    if "questions" in recipe:
        tokens, rate, share = recipe["questions"]
        late.insert(-1, f", then {tokens / 1e6:g}M at {rate:g} ({share:.0%} questions alone)")
    phases += "".join(late)
    return (
        f"vocabulary {recipe['vocab']}, hidden {recipe['hidden']}, {recipe['layers']} layers, "
        f"heads\n  32 wide; {phases}"
    )


def _card(
    name: str,
    facts: str,
    command: str,
    recipe: str,
    digests: Mapping[str, str],
    seconds: float,
    check: str,
    data: str = "word_problems",
) -> str:
    listed = "".join(f"  {name}: {digest}\n" for name, digest in digests.items())
    read = f"template_digests:\n{listed}" if digests else ""
    return f"""---
license: apache-2.0
language: en
library_name: transformers
tags: [llm-distill, tiny]
{read}---

# {name}

{facts}

- Command: `{command}`
- Recipe: {recipe}.
- Training took {seconds / 60:.0f} minutes.
- Data: documents made while training by `scripts/word_problems.py`, worded by the project's
  templates; no question of `data/{data}` is among them.

## Measured

Not measured yet: run `python scripts/{check}.py --write-cards`.
"""


def table(cells: Sequence[Sequence[str]]) -> str:
    rows = [["figure", "measured", "has to be"], ["---", "---", "---"], *cells]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)


def write_figures(path: Path, cells: Sequence[Sequence[str]], check: str = "check_world") -> None:
    """Replace the measured figures in the card of the model at `path`."""
    card = path / "README.md"
    head = card.read_text(encoding="utf-8").split("## Measured")[0]
    how = f"By `python scripts/{check}.py --write-cards`, with transformers on a CPU."
    card.write_text(f"{head}## Measured\n\n{how}\n\n{table(cells)}", encoding="utf-8")
