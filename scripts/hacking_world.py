"""An exact world of teacher hacking: what a student learns of a teacher's text, and of its faults.

    python scripts/hacking_world.py                          # a table over 20 seeds
    python scripts/hacking_world.py --fault 0                # a teacher without one: the control
    python scripts/hacking_world.py --svg docs/teacher-hacking.svg

A text continues a prompt of one of 60 kinds with one of 200 turns, both with Zipf shares, and a
model says how likely the next token is x and not y:

    oracle   p(x) = σ(a[prompt] + b[turn])
    teacher  p(x) = σ(a[prompt] + b[turn] + fine[prompt, turn])     fine: its fault, +1 or -1
    student  p(x) = σ(α[prompt] + β[turn] + γ + 0.15 · δ · fine[prompt, turn])

So the student can become the oracle, and it can become the teacher; what it shares with the teacher
alone it learns slowly. It is trained by forward KL in each token, on texts that the teacher drew.
Both distances are exact: sums over all prompts and turns. Every way of training makes the same
number of steps, at a constant rate.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from llm_distill.methods.hacking import Point, judged
from llm_distill.methods.statistics import mean_interval

N_PROMPTS, N_TURNS, SPREAD, FAULT, FINE = 60, 200, 1.5, 1.0, 0.15
STEPS, EVERY, BATCH, RATE = 3000, 60, 15, 2.0


@dataclass(frozen=True)
class Way:
    """prompts: drawn for an epoch. answers: texts of each. new: what is drawn anew each epoch."""

    prompts: int = 60
    answers: int = 1
    new: str = ""


WAYS = {
    "60 texts, again and again": Way(),
    "as many, of 5 times fewer prompts": Way(prompts=12, answers=5),
    "5 answers a prompt": Way(answers=5),
    "5 times more prompts": Way(prompts=300),
    "new texts each epoch": Way(new="texts"),
    "new prompts each epoch": Way(new="prompts"),
}


@dataclass(frozen=True)
class World:
    """share, oracle, teacher, fine: [prompts, turns]; how often, p(x) of both, and the fault."""

    share: Any
    oracle: Any
    teacher: Any
    fine: Any

    @classmethod
    def drawn(cls, seed: int, fault: float = FAULT) -> World:
        """fault: the size of the teacher's; 0: it is the oracle."""
        rng = np.random.default_rng(seed)
        of_prompt, of_turn = zipf(N_PROMPTS), zipf(N_TURNS)
        sums = np.add.outer(rng.normal(0, SPREAD, N_PROMPTS), rng.normal(0, SPREAD, N_TURNS))
        fine = rng.choice([-1.0, 1.0], sums.shape)
        share = np.multiply.outer(of_prompt, of_turn)
        return cls(share, sigmoid(sums), sigmoid(sums + fault * fine), fine)

    def distance(self, of: Any, student: Any) -> float:
        """KL(of ‖ student) a token, over all texts."""
        yes, no = of * np.log(of / student), (1 - of) * np.log((1 - of) / (1 - student))
        return float((self.share * (yes + no)).sum())


def trained(world: World, way: Way, seed: int, rate_falls: bool = False) -> list[Point]:
    """What is measured on the way. rate_falls: linearly to 0, in place of a constant rate."""
    rng = np.random.default_rng(seed)
    alpha, beta, gamma, delta = np.zeros(N_PROMPTS), np.zeros(N_TURNS), 0.0, 0.0
    of_prompt, of_turn = world.share.sum(1), world.share.sum(0)
    asked = rng.choice(N_PROMPTS, way.prompts, p=of_prompt)

    def texts() -> tuple[Any, Any]:
        prompts = rng.choice(N_PROMPTS, way.prompts, p=of_prompt) if way.new == "prompts" else asked
        n = way.prompts * way.answers
        return np.repeat(prompts, way.answers), rng.choice(N_TURNS, n, p=of_turn)

    points, (prompts, turns), pool = [], texts(), np.zeros(0, int)
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            logits = np.add.outer(alpha, beta) + gamma + FINE * delta * world.fine
            student = sigmoid(logits)
            distances = (
                world.distance(world.teacher, student),
                world.distance(world.oracle, student),
            )
            points.append(Point(step, *distances))
        if not len(pool):
            if way.new and step:
                prompts, turns = texts()
            pool = rng.permutation(len(turns))
        rows, pool = pool[:BATCH], pool[BATCH:]
        p, t = prompts[rows], turns[rows]
        fine = FINE * world.fine[p, t]
        # Of the forward KL by each logit.
        off = sigmoid(alpha[p] + beta[t] + gamma + delta * fine) - world.teacher[p, t]
        rate = RATE * (1 - step / STEPS if rate_falls else 1.0) / len(rows)
        np.add.at(alpha, p, -rate * off)
        np.add.at(beta, t, -rate * off)
        gamma -= rate * off.sum()
        delta -= rate * (off * fine).sum()
    return points


def zipf(n: int) -> Any:
    share = 1 / np.arange(1, n + 1)
    return share / share.sum()


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def without_golden(points: list[Point]) -> list[Point]:
    return [Point(point.step, point.proxy) for point in points]


def is_called(points: list[Point]) -> bool:
    return any(each.is_hacking for each in judged(points))


def table(seeds: int, fault: float = FAULT) -> str:
    """A line for each way of training; means over seeds with 95 % intervals.

    Then what the line is worth, of all trainings, where golden is what it should find.
    """
    worlds = [World.drawn(seed, fault) for seed in range(seeds)]
    called: list[tuple[bool, bool]] = []
    lines = [
        "| trained on | proxy | golden, lowest | golden, last | hacking by golden "
        "| by the line alone |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, way in WAYS.items():
        runs = [trained(world, way, 1000 + seed) for seed, world in enumerate(worlds)]
        both = [(is_called(run), is_called(without_golden(run))) for run in runs]
        called += both
        lowest = [min(point.golden or 0.0 for point in run) for run in runs]
        cells = [
            _cell([run[-1].proxy for run in runs]),
            _cell(lowest),
            _cell([run[-1].golden or 0.0 for run in runs]),
            f"{sum(golden for golden, _ in both)} of {seeds}",
            f"{sum(line for _, line in both)} of {seeds}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    bad = fmean(world.distance(world.oracle, world.teacher) for world in worlds)
    rises, leaves = (sum(of) for of in zip(*called, strict=True))
    hits = sum(golden and line for golden, line in called)
    return "\n".join(
        [
            *lines,
            "",
            f"golden of the teacher itself: {bad:.3f}",
            f"of {len(called)} trainings golden calls {rises}, the line {leaves}, both {hits}",
        ]
    )


def _cell(values: list[float]) -> str:
    found = mean_interval(values)
    return f"{found.value:.3f} ± {found.high - found.value:.3f}"


def draw(path: Path, seed: int = 0) -> None:
    """Golden over proxy, as the paper draws it: a U where the teacher is hacked."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "hacking", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    world = World.drawn(seed)
    for name, way in WAYS.items():
        run = trained(world, way, 1000 + seed)[1:]
        left.plot([p.proxy for p in run], [p.golden for p in run], label=name, lw=1.2)
        right.loglog([p.step for p in run], [p.proxy for p in run], lw=1.2)
    left.invert_xaxis()
    left.set_xlabel("proxy: distance from the teacher (training goes to the right)")
    left.set_ylabel("golden: distance from the oracle")
    left.legend(fontsize=7, frameon=False)
    right.set_xlabel("step")
    right.set_ylabel("proxy")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--fault", type=float, default=FAULT, help="the teacher's; 0: none")
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    if options.svg is not None:
        draw(options.svg)
    else:
        print(table(options.seeds, options.fault))


if __name__ == "__main__":
    main()
