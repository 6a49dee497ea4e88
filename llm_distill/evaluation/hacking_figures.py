"""Teacher hacking in figures: what a training's history has of it, tables and curves, and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.evaluation.result_rows import Figure
from llm_distill.evaluation.results import FigureTable
from llm_distill.methods.hacking import Judged, Point

PREFIX = "hacking/"
PROXY, GOLDEN = f"{PREFIX}proxy", f"{PREFIX}golden"
"""In a history, beside the three divergences of the teacher where they are measured."""
MEASURED, EXPECTED = "measured", "expected"

Curves = Mapping[str, tuple[Sequence[Point], Sequence[Judged]]]
"""By the name of what was trained; without one there is one curve, named ""."""


def points_of(history: Sequence[Mapping[str, float]]) -> list[Point]:
    """The measurements of a training, by step."""
    found = {
        int(at["step"]): Point(int(at["step"]), at[PROXY], at.get(GOLDEN))
        for at in history
        if PROXY in at
    }
    return [found[step] for step in sorted(found)]


def hacking_tables(curves: Curves) -> tuple[FigureTable, FigureTable]:
    """A line for each curve; and a line for each of its points, which the report draws."""
    return (
        FigureTable("teacher hacking", tuple(_summaries(curves)), across="figure"),
        FigureTable(
            "teacher hacking by step",
            tuple(_courses(curves)),
            is_detail=True,
            across="figure",
            over="step",
            drawn=("proxy", "golden"),
        ),
    )


def _summaries(curves: Curves) -> list[Figure]:
    found = []
    for name, (points, judged) in curves.items():
        labels = {"model": name} if name else {}
        figures: dict[str, float | None] = {
            "proxy, last": points[-1].proxy,
            "expected": judged[-1].expected,
            "leaves the line": _first(points, [each.has_left for each in judged]),
        }
        known = [point for point in points if point.golden is not None]
        if known:
            lowest = min(known, key=lambda point: point.golden or 0.0)
            figures |= {
                "golden, lowest": lowest.golden,
                "at step": lowest.step,
                "golden, last": known[-1].golden,
                "golden rises": _first(points, [bool(each.golden_rises) for each in judged]),
            }
        figures["points of hacking"] = sum(each.is_hacking for each in judged)
        figures["from step"] = _first(points, [each.is_hacking for each in judged])
        found += [
            Figure({**labels, "figure": called}, value)
            for called, value in figures.items()
            if value is not None
        ]
    return found


def _courses(curves: Curves) -> list[Figure]:
    found = []
    for name, (points, judged) in curves.items():
        for point, said in zip(points, judged, strict=True):
            labels = {"step": str(point.step), **({"model": name} if name else {})}
            found.append(Figure({**labels, "line": MEASURED, "figure": "proxy"}, point.proxy))
            if point.golden is not None:
                found.append(Figure({**labels, "line": MEASURED, "figure": "golden"}, point.golden))
            if said.expected is not None:
                expected = {**labels, "line": EXPECTED, "figure": "proxy"}
                found.append(Figure(expected, said.expected, said.low, said.high))
    return found


def _first(points: Sequence[Point], is_so: Sequence[bool]) -> int | None:
    """The step of the first point of which it is so."""
    return next((p.step for p, so in zip(points, is_so, strict=True) if so), None)


def said_of(
    points: Sequence[Point], judged: Sequence[Judged], *, constant_rate: bool | None, name: str = ""
) -> str | None:
    """What to say of a curve; None where nothing is called hacking.

    constant_rate: whether the learning rate stayed as it was; None: that is not known.
    """
    at = next((index for index, each in enumerate(judged) if each.is_hacking), None)
    if at is None:
        return None
    point, whose = points[at], f"{name}: " if name else ""
    known = [p for p in points[: at + 1] if p.golden is not None]
    if known:
        lowest = min(known, key=lambda p: p.golden or 0.0)
        return (
            f"{whose}teacher hacking by step {point.step}: the student still comes nearer to its "
            f"teacher (proxy {lowest.proxy:.4g} at step {lowest.step}, {point.proxy:.4g} now), and "
            f"golden has risen from {lowest.golden:.4g} to {point.golden:.4g}. Stop near step "
            f"{lowest.step} (max_steps), or train on new texts of more prompts in place of the "
            "same ones again"
        )
    excess = judged[at].excess or 0.0
    falls = {
        True: "",
        False: " The learning rate is not constant, and a rate that falls bends the line as well: "
        "lr_scheduler_type: constant tells the two apart.",
        None: " If the learning rate fell meanwhile, that bends the line as well: a constant one "
        "tells the two apart.",
    }
    why_else = falls[constant_rate]
    return (
        f"{whose}a sign of teacher hacking by step {point.step}: the distance from the teacher is "
        f"{abs(excess):.0%} {'above' if excess > 0 else 'below'} the power law of the first third "
        f"of the training, for three points in a row.{why_else} Only an oracle shows whether the "
        "student gets worse (watch_hacking.golden, golden_rows)"
    )
