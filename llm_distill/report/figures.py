"""Tables and charts of other stages than evaluations: scores, missing skills, trainings."""

from __future__ import annotations

from collections.abc import Sequence

from llm_distill.evaluation.result_rows import AnsweredPrompt, Figure, SkillRow, percent
from llm_distill.evaluation.results import FigureTable, told_later
from llm_distill.report.charts import Curve, Drawing, Histogram, Scatter, Shares, Table
from llm_distill.report.collect import RunView, StageView, read_rows

MOST_DRAWN = 30
ENDS = (0.1, 0.2, 0.4, 0.6, 0.8)
"""Where an axis may end before 100 %, so that its quarters have short labels."""

# What a training's history holds: key -> what it is called. Points without it are skipped.
CURVES = {
    "loss": {"loss": "training", "eval_loss": "validation"},
    "tokens of the student's texts": {"rollouts/tokens": "mean"},
    "share of the student's texts": {
        "rollouts/truncated": "cut by max_tokens",
        "rollouts/empty": "empty",
        "rollouts/repeated": "repeated",
        "rollouts/left_out": "not compared",
    },
    "distance of the student from what wrote the rows, nats a token": {"opd_apart": "mean"},
    "share of the sampled tokens": {
        "opd_effective": "effective, by their weights",
        "opd_clipped": "whose weight is clipped",
    },
    "reward margin": {"rewards/margins": "training", "eval_rewards/margins": "validation"},
}

ALIGNED = (
    ("rows", "n_rows", "{:,}"),
    ("chunks", "n_chunks", "{:,}"),
    ("bytes compared", "share_of_bytes", "{:.1%}"),
    ("teacher's tokens a chunk", "teacher_tokens_per_chunk", "{:.2f}"),
    ("student's tokens a chunk", "student_tokens_per_chunk", "{:.2f}"),
)


def own_tables(run: RunView, *, of_models: bool) -> list[tuple[str, Table]]:
    """(`stage: title`, table) for each table of a stage's own figures that is not below a picture.

    of_models: those with the label `model`, which are results; or the others.
    """
    return [
        (f"{stage}: {own.title}", Table(own.columns, own.cells, len(own.names)))
        for stage, own in own_figures(run)
        if ("model" in own.names) == of_models and not own.drawn_as
    ]


def own_figures(run: RunView) -> list[tuple[str, FigureTable]]:
    """(stage, table), without those that a later stage has with more lines."""
    later = told_later([stage.results for stage in run.stages])
    return [
        (stage.name, own)
        for stage, told in zip(run.stages, later, strict=True)
        for own in stage.results.own
        if own.title not in told
    ]


def courses(run: RunView) -> list[Drawing]:
    """Stages' own figures over the rounds, where there are several."""
    found = []
    for stage, own in own_figures(run):
        for title in own.drawn:
            lines: dict[str, list[tuple[float, float]]] = {}
            for figure in own.figures:
                at = figure.labels.get(own.over, "")
                if figure.labels.get(own.across) == title and at.isdecimal():
                    others = (
                        v for n, v in figure.labels.items() if n not in (own.across, own.over)
                    )
                    lines.setdefault(", ".join(others), []).append((float(at), figure.value))
            points = {name: tuple(sorted(line)) for name, line in lines.items() if len(line) > 1}
            if points:
                found.append(Drawing(f"{stage}: {title}", Curve(title, points, own.over)))
    return found


def planes(run: RunView) -> list[Drawing]:
    """Two of a stage's own figures against each other, a point for each line of its table."""
    found = []
    for stage, own in own_figures(run):
        if own.over or len(own.drawn) != 2:
            continue
        lines: dict[str, dict[str, Figure]] = {}
        for figure in own.figures:
            others = (v for n, v in figure.labels.items() if n != own.across)
            lines.setdefault(", ".join(others), {})[figure.labels.get(own.across, "")] = figure
        along, up = own.drawn
        points = {
            name: (line[along], line[up])
            for name, line in lines.items()
            if along in line and up in line
        }
        if points:
            note = "95 % intervals over items."
            title = f"{stage}: {own.title}, {up} against {along}"
            found.append(Drawing(title, Scatter(along, up, points), note))
    return found


def rounds(run: RunView) -> list[Drawing]:
    """What rounds have measured until they ended."""
    return [
        Drawing(
            f"{block}: mean of {loop.watch}",
            Curve("mean", {"": tuple(enumerate(loop.figures, start=1))}, "round"),
        )
        for block, loop in run.record.loops.items()
        if len(loop.figures) > 1
    ]


def worst_places(run: RunView) -> list[tuple[str, Table]]:
    """(title, table) of where a teacher and a student differ most, for each stage that looked."""
    titles = ("row", "⟦the place⟧ in its text", "teacher's log p", "student's", "difference")
    return [
        (
            f"{stage.name}: where teacher and student differ most",
            Table(
                titles,
                tuple(
                    (at.row, at.place, f"{at.teacher:.2f}", f"{at.student:.2f}", f"{at.gap:+.2f}")
                    for at in stage.results.places
                ),
                2,
            ),
        )
        for stage in run.stages
        if stage.results.places
    ]


def distributions(run: RunView) -> list[Drawing]:
    """Scores and preference margins of the stages that add them."""
    views = {stage.name: stage for stage in run.stages}
    found: list[Drawing | None] = []
    for stage in run.stages:
        inherited = {c for name in stage.inputs if name in views for c in views[name].columns}
        for column, by, what in (
            ("score", "strategy", f"score by {stage.kind}"),
            ("margin", "kind", "margin of chosen over rejected"),
        ):
            if column in stage.columns - inherited and stage.directory is not None:
                found.append(_distribution(stage, column, by, what))
    return [figure for figure in found if figure is not None]


def trainings(run: RunView) -> list[Drawing]:
    """Each training's curves over its steps."""
    found = []
    for stage in run.stages:
        for quantity, keys in CURVES.items():
            points = {label: curve_points(stage, key) for key, label in keys.items()}
            if drawn := {label: line for label, line in points.items() if line}:
                found.append(Drawing(f"{stage.name}: {quantity}", Curve(quantity, drawn)))
    return found


def curve_points(stage: StageView, key: str) -> tuple[tuple[float, float], ...]:
    """(step, value) of what a training's history has under the key."""
    history = stage.results.history
    return tuple((at["step"], at[key]) for at in history if "step" in at and key in at)


def writing(run: RunView) -> Table | None:
    """How models write before and after their trainings; None without one that was asked."""
    cells = tuple(
        (
            stage.name,
            row.answers,
            f"{row.length:g}",
            *map(percent, (row.ended, row.repeated, row.same)),
            "" if row.readable is None else percent(row.readable),
            "" if row.entropy is None else f"{row.entropy:.2f}",
        )
        for stage in run.stages
        for row in stage.results.writing
    )
    titles = (
        "stage", "answers", "median tokens", "end by themselves", "repeated", "all the same",
        "say the answer", "nats a token",
    )  # fmt: skip
    return Table(titles, cells, 2) if cells else None


def answered(run: RunView) -> list[tuple[str, AnsweredPrompt]]:
    """(stage, a prompt with what its model wrote before and after the training)."""
    return [(stage.name, found) for stage in run.stages for found in stage.results.answered]


def profiles(run: RunView) -> list[Drawing]:
    """The weights of missing skills, the most frequent first, of every skill profile."""
    return [_profile(stage.name, rows) for stage in run.stages if (rows := stage.results.skills)]


def _profile(stage: str, rows: Sequence[SkillRow]) -> Drawing:
    several = len({row.task for row in rows}) > 1  # the skill first: long names are cut
    shares = {
        f"{row.skill} ({row.task})" if several else row.skill: {"weight": row.as_figure}
        for row in rows[:MOST_DRAWN]
    }
    highest = max(row.weight_high for row in rows[:MOST_DRAWN])
    end = next((end for end in ENDS if highest <= end), 1.0)
    left = len(rows) - len(shares)
    note = f"The {MOST_DRAWN} most frequent; {left} more are not drawn. " if left else ""
    return Drawing(
        f"{stage}: missing skills",
        Shares("missing skill", shares, end),
        f"{note}Share of all labels, with 95 % intervals over questions.",
    )


def alignments(run: RunView) -> Table | None:
    """How texts of teacher and student aligned, a row for each training; None without one."""
    rows = []
    for stage in run.stages:
        if (found := stage.results.alignment) is not None:
            values = ((getattr(found, name), form) for _, name, form in ALIGNED)
            cells = ["" if value is None else form.format(value) for value, form in values]
            dropped = ", ".join(f"{reason}: {count:,}" for reason, count in found.dropped.items())
            rows.append((stage.name, *cells, dropped))
    titles = (title for title, _, _ in ALIGNED)
    return Table(("stage", *titles, "left out"), tuple(rows)) if rows else None


def _distribution(stage: StageView, column: str, by: str, what: str) -> Drawing | None:
    try:
        rows = read_rows(stage)
        names = list(rows[by]) if by in rows.column_names else [""] * len(rows)
        values = zip(names, rows[column], strict=True)
        known = [(str(name or ""), float(value)) for name, value in values if value is not None]
        steps = [n for n in rows["n_items"] if n] if "n_items" in rows.column_names else []
    except Exception:  # `samples` says what is wrong with the rows
        return None
    if not known:
        return None
    missing = len(names) - len(known)
    note = f"{missing:,} of {len(names):,} rows have no {column}." if missing else ""
    chart = Histogram.of(what, known, 1 / max(steps) if steps else None)
    return Drawing(f"{stage.name}: {what}", chart, note)
