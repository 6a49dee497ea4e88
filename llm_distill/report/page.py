"""The report's HTML: one file that loads nothing else.

The template escapes texts of models and data. The page's Content-Security-Policy allows only its
own style and script, by their digests, so that a browser would run nothing else even if a text were
not escaped.
"""

from __future__ import annotations

import hashlib
import time
from base64 import b64encode
from collections.abc import Iterable
from itertools import count
from pathlib import Path

import yaml

from llm_distill import __version__
from llm_distill.errors import counted
from llm_distill.report import plots
from llm_distill.report.charts import Drawing, Table
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.exams import (
    accuracies,
    contamination_table,
    exam_charts,
    results_table,
)
from llm_distill.report.figures import (
    alignments,
    answered,
    distributions,
    own_tables,
    profiles,
    trainings,
    writing,
)
from llm_distill.report.picture import picture
from llm_distill.report.samples import MOST_CARDS, MOST_CHARACTERS, samples
from llm_distill.report.use import use

HERE = Path(__file__).parent


def render(run: RunView) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=counted, duration=_duration)
    style = (HERE / "page.css").read_text(encoding="utf-8")
    script = (HERE / "page.js").read_text(encoding="utf-8")
    draws = plots.available()
    numbers = count(1)

    def draw(given: Drawing) -> Markup | None:
        name = f"plot-{next(numbers)}"
        return Markup(plots.draw(given.chart, name, given.title)) if draws else None

    page = environment.get_template("page.html.jinja").render(
        run=run,
        version=__version__,
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.record.started)),
        stopped=[s for s in run.stages if s.state in ("failed", "interrupted") and s.record.why],
        draw=draw,
        exams=[stage for stage in run.stages if stage.results.rows],
        accuracies=accuracies,
        results_table=results_table,
        exam_charts=exam_charts,
        contamination_table=contamination_table,
        own_tables=own_tables(run),
        lanes=Markup(picture([(s.name, s.inputs, s.state) for s in run.stages])),
        distributions=[*profiles(run), *distributions(run)],
        trainings=trainings(run),
        alignments=alignments(run),
        writing=writing(run),
        answered=answered(run),
        samples=samples(run),
        use=use(run),
        most_cards=MOST_CARDS,
        most_characters=MOST_CHARACTERS,
        versions=_versions(run.stages),
        models=_models(run.stages),
        settings=run.settings_text,
        install=None if draws else plots.INSTALL,
        style=Markup(style),
        script=Markup(script),
        policy="; ".join(
            [
                "default-src 'none'",
                f"style-src '{_digest(style)}'",
                f"script-src '{_digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
    )
    return page.lstrip()  # the macros at its top leave empty lines


def _digest(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _versions(stages: Iterable[StageView]) -> Table:
    """Versions, devices and commits in the manifests of all stages."""
    found: dict[str, dict[str, None]] = {}
    for manifest in (stage.manifest for stage in stages if stage.manifest):
        own = {"device": manifest.device, "git commit": manifest.git_commit}
        stated = {**manifest.packages, **{name: value for name, value in own.items() if value}}
        for name, value in stated.items():
            found.setdefault(name, {})[value] = None
    rows = tuple((name, ", ".join(values)) for name, values in found.items())
    return Table(("", "version"), rows, n_names=2)


def _models(stages: Iterable[StageView]) -> Table:
    """The models that stages used: their source, and the digest of their weights."""
    rows: dict[tuple[str, ...], None] = {}
    for manifest in (stage.manifest for stage in stages if stage.manifest):
        for name, used in manifest.models.items():
            path = " + ".join([used.path, *used.adapters])
            identity = used.identity
            weights = identity if isinstance(identity, str) else yaml.safe_dump(identity)
            rows[name, path, used.revision or "", weights.strip()[:16]] = None
    return Table(("model", "weights", "revision", "digest"), tuple(rows), n_names=4)


def _duration(seconds: float) -> str:
    """`0.05 s`, `3.6 s`, `1 min 28 s`, `2 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )
