"""How many answers racing saves in `score_in_context`, and how often its pairs are the exact ones.

Simulated, with the numbers of the paper (arXiv 2406.19227: 250 questions of four rationales, 40
items): an answer is right with a probability of its candidate's own, the mean of the strategy plus
a spread between questions and one between rationales. Everything else is the stage's own code: the
laps, the test, the pairs. What it does in the bundled world is measured by running it, see
docs/decisions/0009.

    python benchmarks/racing.py
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hardware import describe
from rich import box
from rich.console import Console
from rich.table import Table

from llm_distill.methods.in_context_score import question_scores
from llm_distill.methods.preference_pairs import Scored, question_pairs, rationale_pairs
from llm_distill.methods.racing import Standing, still_racing
from llm_distill.stages.score_in_context import LAPS

QUESTIONS, ITEMS, QUANTILE, DRAWS = 250, 40, 0.25, 5
ERRORS = (0.2, 0.05, 0.01)
Name = tuple[int, int]


@dataclass(frozen=True)
class World:
    """Mean accuracy of each strategy, and the deviations of questions and of rationales."""

    what: str
    strategies: tuple[float, ...]
    between_questions: float
    between_rationales: float


WORLDS = (
    World("strategies far apart", (0.2, 0.4, 0.6, 0.8), 0.1, 0.05),
    World("questions differ most", (0.45, 0.5, 0.5, 0.55), 0.2, 0.05),
    World("as the bundled world", (0.0, 0.0, 0.72, 0.8), 0.05, 0.05),
    World("all alike", (0.5, 0.5, 0.5, 0.5), 0.0, 0.0),
)


def draw(world: World, rng: Random) -> dict[Name, list[bool]]:
    """For each candidate, whether it has each item right."""
    answers = {}
    for question in range(QUESTIONS):
        shift = rng.gauss(0, world.between_questions)
        for strategy, mean in enumerate(world.strategies):
            own = rng.gauss(0, world.between_rationales) if mean else 0.0
            chance = min(max(mean + (shift if mean else 0.0) + own, 0.0), 1.0)
            answers[question, strategy] = [rng.random() < chance for _ in range(ITEMS)]
    return answers


def race(answers: dict[Name, list[bool]], error: float) -> dict[Name, int]:
    """How many items each candidate is asked."""
    questions: dict[str, list[Name]] = {}
    for name in answers:
        questions.setdefault(str(name[0]), []).append(name)
    asked = dict.fromkeys(answers, 0)
    racing = set(answers)
    for lap in range(1, LAPS + 1):
        asked.update(dict.fromkeys(racing, lap * ITEMS // LAPS))
        standings = {
            name: Standing(sum(answers[name][: asked[name]]), asked[name], ITEMS)
            for name in answers
        }
        racing = still_racing(questions, standings, quantile=QUANTILE, error=error)
    return asked


def pairs(answers: dict[Name, list[bool]], asked: dict[Name, int]) -> tuple[set[str], set[str]]:
    """The question and the rationale pairs that these answers give, as texts."""
    scores = {name: sum(answers[name][:n]) / n for name, n in asked.items()}
    groups: dict[str, list[Scored]] = {}
    for (question, strategy), score in scores.items():
        identity = f"{question}-{strategy}"
        groups.setdefault(str(question), []).append(Scored(identity, score, identity))
    means = question_scores((str(name[0]), score) for name, score in scores.items())
    questions = [Scored(name, found.score, name) for name, found in means.items()]
    by_question = question_pairs(questions, quantile=QUANTILE, limit=50, min_margin=0.0, seed=0)
    by_rationale = rationale_pairs(groups, limit=QUESTIONS, min_margin=0.0, seed=0)
    return (
        {f"{p.chosen.id}>{p.rejected.id}" for p in by_question.pairs},
        {f"{p.chosen.id}>{p.rejected.id}" for p in by_rationale.pairs},
    )


def main() -> None:
    """Print the table."""
    console = Console(width=120)
    console.print(describe("scipy"))
    table = Table("candidates", "error", box=box.SIMPLE_HEAD)
    for column in ("answers saved", "equal question pairs", "equal rationale pairs"):
        table.add_column(column, justify="right")
    for world in WORLDS:
        draws = [draw(world, Random(seed)) for seed in range(DRAWS)]
        for error in ERRORS:
            saved = same_questions = same_rationales = n_questions = n_rationales = 0
            for answers in draws:
                asked = race(answers, error)
                saved += len(answers) * ITEMS - sum(asked.values())
                exact = pairs(answers, dict.fromkeys(answers, ITEMS))
                raced = pairs(answers, asked)
                same_questions += len(exact[0] & raced[0])
                same_rationales += len(exact[1] & raced[1])
                n_questions += len(exact[0])
                n_rationales += len(exact[1])
            total = DRAWS * QUESTIONS * len(world.strategies) * ITEMS
            figures = saved / total, same_questions / n_questions, same_rationales / n_rationales
            table.add_row(world.what, str(error), *(f"{figure:.1%}" for figure in figures))
    console.print(table)


if __name__ == "__main__":
    main()
