"""The report on a run: what its page shows, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import yaml
from markupsafe import Markup

from llm_distill.hints import hint
from llm_distill.report.cards import MOST_CARDS
from llm_distill.report.charts import Table
from llm_distill.report.collect import RunView, StageView
from llm_distill.report.exams import (
    accuracies,
    contamination_table,
    differences_table,
    exam_charts,
    results_table,
)
from llm_distill.report.figures import (
    alignments,
    answered,
    courses,
    distributions,
    own_tables,
    planes,
    profiles,
    rounds,
    trainings,
    worst_places,
    writing,
)
from llm_distill.report.html import render_page
from llm_distill.report.label_drawings import label_drawings
from llm_distill.report.logs import stage_logs
from llm_distill.report.picture import picture
from llm_distill.report.samples import anchors, samples
from llm_distill.report.stages_shown import stages_shown
from llm_distill.report.use import use


def render(run: RunView, folder: Path | None = None) -> str:
    """The whole page. folder: where it will lie; the run's own unless given."""
    stages = stages_shown(run, stage_logs(run), folder or run.record.directory)
    shown = samples(run)
    names = {(place.stage, place.id): name for place, name in anchors(shown).items()}
    return render_page(
        "page.html.jinja",
        run=run,
        started=time.strftime("%Y-%m-%d %H:%M", time.localtime(run.record.started)),
        stopped=[s for s in run.stages if s.state in ("failed", "interrupted") and s.record.why],
        loops=[loop.told(block) for block, loop in run.record.loops.items()],
        stages=stages,
        places={stage.view.name: stage.name for stage in stages},
        exams=[stage for stage in run.stages if stage.results.rows],
        accuracies=accuracies,
        results_table=results_table,
        differences_table=differences_table,
        exam_charts=exam_charts,
        contamination_table=contamination_table,
        own_tables=own_tables(run, of_models=True),
        measured=own_tables(run, of_models=False),
        labelled=label_drawings(run),
        lanes=Markup(picture([(s.name, s.inputs, s.state) for s in run.stages])),
        distributions=[
            *profiles(run),
            *distributions(run),
            *courses(run),
            *planes(run),
            *rounds(run),
        ],
        worst_places=worst_places(run),
        trainings=trainings(run),
        alignments=alignments(run),
        writing=writing(run),
        answered=answered(run),
        samples=shown,
        rows_of={sample.stage: f"rows-{number}" for number, sample in enumerate(shown, 1)},
        anchors=names,
        use=use(run),
        most_cards=MOST_CARDS,
        versions=_versions(run.stages),
        models=_models(run.stages),
        settings=run.settings_text,
        again=hint("run", str(run.record.directory / "pipeline.yaml")),
    )


def _versions(stages: Iterable[StageView]) -> Table:
    """Versions, devices and commits in the manifests of all stages."""
    found: dict[str, dict[str, None]] = {}
    for manifest in (stage.manifest for stage in stages if stage.manifest):
        own = {"device": manifest.device, "git commit": manifest.git_commit}
        stated = {**manifest.packages, **{name: value for name, value in own.items() if value}}
        for name, value in stated.items():
            found.setdefault(name, {})[value] = None
    rows = tuple((name, ", ".join(values)) for name, values in found.items())
    return Table(("package", "version"), rows, n_names=2)


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
