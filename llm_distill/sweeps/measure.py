"""What a finished run measured, read from its artifacts: figures, and exams down to the items."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isclose
from pathlib import Path
from statistics import fmean
from typing import Any

from llm_distill.digests import fingerprint
from llm_distill.evaluation.results import Figure, Results
from llm_distill.integrity import DamagedError
from llm_distill.manifest import Manifest
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.fingerprint import without_earlier_stages
from llm_distill.runtime.finished import FinishedRun
from llm_distill.runtime.pruned import find_pruned
from llm_distill.runtime.record import RunRecord
from llm_distill.sweeps.outcomes import Items, Measured, marks_of
from llm_distill.sweeps.roles import in_a_run, named_by_role, roles_of, with_roles

DIGEST_LENGTH = 16
MOST_GROUPS = 200
"""Values of a column; one with more, such as an id, tells no groups apart."""
GROUP_COLUMNS = ("skills", "task")
ITEM_COLUMNS = ("question", "messages", "reference_answer")
"""What makes an item another one although its id is the same."""
LABELS = ("model", "shots", "task", "filter", "metric")
HELD_OUT = "loss on held-out rows"

Answers = dict[str, list[float]]
"""Item to the score of each answer to it."""


@dataclass
class RunMeasured:
    """All figures of a run. missing: finished stages whose artifacts cannot be read."""

    figures: list[Measured] = field(default_factory=list)
    items: dict[str, Items] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    @property
    def recipe_digest(self) -> str:
        return recipe_digest(self.recipe)


def recipe_digest(recipe: Mapping[str, Any]) -> str:
    return fingerprint(recipe)[:DIGEST_LENGTH]


def measure(record: RunRecord, workspace: Workspace) -> RunMeasured:
    """Read a run's artifacts.

    Raises:
        WorkspaceError: something lies in an artifact that was made without it.
    """
    found = RunMeasured()
    written = FinishedRun(record, workspace).as_written if record.loops else None
    roles = roles_of(written, in_a_run(record)) if written is not None else {}
    for name, stage in record.stages.items():
        try:
            artifact = workspace.find(stage.artifact, read_files=False) if stage.artifact else None
        except DamagedError:
            artifact = None
        pruned = find_pruned(workspace, stage.artifact) if stage.artifact else None
        if artifact is None and pruned is None:
            found.missing.append(name)
            continue
        known = artifact or pruned
        assert known is not None
        found.recipe[name] = without_earlier_stages(known.manifest.identity, record.stages)
        of_stage = RunMeasured(items=found.items)
        _stage(name, known.manifest, artifact.path if artifact else None, of_stage)
        own = roles.get(name)
        found.figures += [named for f in of_stage.figures for named in named_by_role(f, own)]
    if written is not None:
        found.recipe = with_roles(found.recipe, written, roles)
    return found


def _stage(name: str, manifest: Manifest, path: Path | None, found: RunMeasured) -> None:
    """path: of its rows; None where they were pruned, and only its figures are known."""
    results = Results.from_metrics(manifest.metrics)
    columns = set(manifest.features or ())
    is_exam = results.of_models and _is_exam(columns)
    exam = _Exam.read(path, manifest) if is_exam and path is not None else None
    figures: list[tuple[Figure, Answers]] = []
    for row in results.exam:
        answers = exam.of(model=row.model, shots=row.shots) if exam else {}
        figures.append((row.as_figure, answers))
    for harness in results.harness:
        key = {name: getattr(harness, name) for name in LABELS}
        figures.append((harness.as_figure, exam.of(**key) if exam else {}))
    figures += [(row.as_figure, {}) for row in results.agreement]
    for table in results.listed:
        figures += [
            (Figure({"table": table.title, **f.labels}, f.value, n=f.n, kind=f.kind), {})
            for f in table.figures
        ]
    figures += [(figure, {}) for figure in _held_out(name, manifest, results)]
    for figure, answers in figures:
        if figure.value == figure.value:  # of annotators it may be undefined: NaN
            found.figures.append(_measured(name, figure, answers, exam, found.items))


def _held_out(name: str, manifest: Manifest, results: Results) -> Iterator[Figure]:
    """The loss of the model that a training gave, if it looked at held-out rows."""
    losses = [point["eval_loss"] for point in results.history if "eval_loss" in point]
    if losses:
        best = manifest.settings.get("load_best_model_at_end")
        loss = min(losses) if best else losses[-1]
        yield Figure({"model": name, "metric": HELD_OUT}, loss)


def _measured(
    stage: str, figure: Figure, answers: Answers, exam: _Exam | None, items: dict[str, Items]
) -> Measured:
    plain = {
        "stage": stage,
        "labels": dict(figure.labels),
        "kind": figure.kind,
        "value": figure.value,
        "n": figure.n,
    }
    ids = sorted(answers)
    means = [fmean(answers[i]) for i in ids]
    counts = {len(answers[i]) for i in ids}
    # A figure that is no mean over items (such as a perplexity) is kept as it is.
    if exam is None or len(counts) != 1 or not isclose(fmean(means), figure.value, abs_tol=1e-6):
        return Measured(**plain)
    digest = exam.digest(ids)
    items.setdefault(digest, Items(n=len(ids), groups=exam.groups(ids)))
    (out_of,) = counts
    return Measured(**plain, items=digest, marks=marks_of(means, out_of), out_of=out_of)


def _is_exam(columns: set[str]) -> bool:
    return {"parent_id", "model", "shots", "is_correct"} <= columns


@dataclass
class _Exam:
    """The rows of an exam.

    labels: columns that tell its figures apart. answers: by their values.
    about: item to what it says, for its digest. in_groups: column to value to items.
    """

    labels: tuple[str, ...]
    answers: dict[tuple[Any, ...], Answers] = field(default_factory=dict)
    about: dict[str, list[Any]] = field(default_factory=dict)
    in_groups: dict[str, dict[str, set[str]]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path, manifest: Manifest) -> _Exam:
        from datasets import load_from_disk

        rows = load_from_disk(str(path))
        there = rows.column_names
        labels = tuple(name for name in LABELS if name in there)
        scored = "filter" in there  # of lm-eval; elsewhere it may be a column of the items
        groups = dict.fromkeys([*manifest.settings.get("by", ()), *GROUP_COLUMNS])
        by = [name for name in groups if name in there]
        about = [name for name in ITEM_COLUMNS if name in there]
        found = cls(labels, in_groups={column: defaultdict(set) for column in by})
        right = "score" if scored else "is_correct"
        for row in rows.select_columns(list({*labels, "parent_id", right, *by, *about})):
            item = str(row["parent_id"])
            answers = found.answers.setdefault(tuple(row[name] for name in labels), {})
            answers.setdefault(item, []).append(float(row[right] or 0))
            if item not in found.about:
                found.about[item] = [row[name] for name in about]
                for column in by:
                    value = row[column]
                    for name in value if isinstance(value, list) else [value]:
                        found.in_groups[column][str(name)].add(item)
        return found

    def of(self, **labels: Any) -> Answers:
        """The answers whose columns have these values; a column that is not named has any."""
        merged: Answers = defaultdict(list)
        for values, answers in self.answers.items():
            own = dict(zip(self.labels, values, strict=True))
            if all(own[name] == value for name, value in labels.items() if name in own):
                for item, scores in answers.items():
                    merged[item] += scores
        return dict(merged)

    def digest(self, ids: Sequence[str]) -> str:
        return fingerprint([[i, self.about[i]] for i in ids])[:DIGEST_LENGTH]

    def groups(self, ids: Sequence[str]) -> dict[str, dict[str, str]]:
        return {
            column: {
                value: "".join("01"[i in items] for i in ids) for value, items in sorted(of.items())
            }
            for column, of in self.in_groups.items()
            if 0 < len(of) <= MOST_GROUPS
        }
