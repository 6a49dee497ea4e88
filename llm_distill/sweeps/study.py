"""A sweep before it runs: its combinations, checked, in order, and what each would run."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, Literal

from llm_distill.digests import fingerprint
from llm_distill.errors import ConfigError, LLMDistillError
from llm_distill.pipeline.load import load_pipeline
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.runtime.artifact import Workspace
from llm_distill.runtime.plan import Selection, plan, planning
from llm_distill.runtime.preflight import preflight
from llm_distill.runtime.resolve import Resolver
from llm_distill.stage import references
from llm_distill.sweeps.grid import Axis, Setting, described, settings_of
from llm_distill.sweeps.measure import recipe_digest
from llm_distill.sweeps.merge import why_apart
from llm_distill.sweeps.outcomes import Outcome, SweepFile, read_sweep
from llm_distill.sweeps.roles import before_a_run, roles_of, with_roles

SWEEP = "sweep.json"
SHOWN_PROBLEMS = 10

What = Literal["reuse", "run", "shared"]


@dataclass(frozen=True)
class Combination:
    """One run of the sweep."""

    setting: Setting
    seed: int

    @property
    def described(self) -> str:
        """`seed 2, learning_rate 5e-05`."""
        settings = described(self.setting.values)
        return f"seed {self.seed}" + (f", {settings}" if settings else "")


@dataclass
class Study:
    """The combinations of a file with seeds and settings; loaded pipelines by setting."""

    file: str
    profile: str | None
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]
    workspace: Workspace
    _checked: dict[str, PipelineConfig] = field(default_factory=dict)
    _recipes: dict[str, dict[str, Any]] = field(default_factory=dict)
    _first: Resolver | None = None

    @classmethod
    def checked(
        cls,
        file: str,
        profile: str | None,
        axes: Sequence[Axis],
        seeds: Sequence[int],
        workspace: Workspace,
    ) -> Study:
        """Load every combination of settings.

        seeds: none for the file's own.

        Raises:
            ConfigError: with what is wrong with any of them.
        """
        study = cls(file, profile, tuple(axes), tuple(seeds), workspace)
        problems: dict[str, list[str]] = {}
        for setting in study.settings:
            try:
                study._checked[setting.key] = study.load(setting, seeds[0] if seeds else None)
            except ConfigError as error:
                problems.setdefault(str(error), []).append(described(setting.values))
        study._refuse(problems)
        own = next(iter(study._checked.values()))
        study.seeds = tuple(seeds) or (own.seed,)
        return study

    @cached_property
    def settings(self) -> list[Setting]:
        return list(settings_of(self.axes))

    def load(self, setting: Setting, seed: int | None) -> PipelineConfig:
        seeded = [] if seed is None else [f"seed={seed}"]
        return load_pipeline(
            self.file, profile=self.profile, assignments=[*setting.assignments, *seeded]
        )

    @property
    def pipeline(self) -> PipelineConfig:
        """That of the first setting."""
        return next(iter(self._checked.values()))

    def preflight(self, settings: Sequence[Setting]) -> list[str]:
        """Look, for each setting, for what would stop its first run for certain.

        Returns:
            Warnings.

        Raises:
            LLMDistillError: with what would stop any of them.
        """
        problems: dict[str, list[str]] = {}
        kinds: set[type[LLMDistillError]] = set()
        warnings: dict[str, None] = {}
        for setting in settings:
            pipeline = self._checked[setting.key]
            resolver = self.resolver(pipeline)
            try:
                decisions = list(
                    plan(pipeline, self.workspace, Selection(), resolver=resolver, read_files=False)
                )
                found = preflight(decisions, resolver, self.workspace, set())
                refused = found.error(pipeline)
            except LLMDistillError as error:
                refused = error
            else:
                warnings.update(dict.fromkeys(found.warnings))
            if refused is not None:
                kinds.add(type(refused))
                problems.setdefault(str(refused), []).append(described(setting.values))
        self._refuse(problems, kinds.pop() if len(kinds) == 1 else ConfigError)
        return list(warnings)

    def resolver(self, pipeline: PipelineConfig) -> Resolver:
        """One that notes nothing; models are read once for all combinations."""
        if self._first is None:
            self._first = planning(pipeline, self.workspace)
        return replace(self._first, pipeline=pipeline, ready={})

    def recipe(self, setting: Setting) -> dict[str, Any]:
        """What its runs have in common, whatever their seed; see `SweepFile.recipes`."""
        pipeline = self._checked[setting.key]
        roles = roles_of(pipeline, before_a_run)
        return with_roles(self._of_stages(setting), pipeline, roles)

    def _of_stages(self, setting: Setting) -> dict[str, Any]:
        """The recipe of each stage, of those of a `repeat` in each round."""
        if setting.key not in self._recipes:
            pipeline = self._checked[setting.key]
            resolver = self.resolver(pipeline)
            resolver.learn_commits(pipeline.stages)  # as a run does: they are a part of it
            self._recipes[setting.key] = {n: resolver.recipe(n) for n in pipeline.stages}
        return self._recipes[setting.key]

    def combinations(self) -> list[Combination]:
        """Seed by seed, so that a sweep that is stopped has whole comparisons.

        Within a seed, settings that share their first stages follow each other: those are made
        once, and may be pruned after.
        """
        order = self._by_shared_stages()
        return [Combination(setting, seed) for seed in self.seeds for setting in order]

    def lineage(self, combination: Combination) -> dict[str, str]:
        """For each stage a digest of all that its artifact depends on, known before it is made."""
        pipeline = self._checked[combination.setting.key]
        recipe = self._of_stages(combination.setting)
        found: dict[str, str] = {}
        for name, stage in pipeline.stages.items():
            inputs = {t: found[t] for _, t, _ in references(stage) if t in found}
            seed = combination.seed if stage.is_seeded() else None
            found[name] = fingerprint([name, recipe[name], inputs, seed])
        return found

    def what_runs(self, todo: Sequence[Combination]) -> list[dict[str, What]]:
        """For each combination, what becomes of each stage; "shared": made by one before it."""
        made: set[str] = set()
        found = []
        for combination in todo:
            pipeline = self.load(combination.setting, combination.seed)
            lineage = self.lineage(combination)
            resolver = self.resolver(pipeline)
            decisions = plan(
                pipeline, self.workspace, Selection(), resolver=resolver, read_files=False
            )
            what: dict[str, What] = {}
            for decision in decisions:
                known = lineage[decision.name] in made
                what[decision.name] = (
                    "reuse" if decision.action == "reuse" else "shared" if known else "run"
                )
                made.add(lineage[decision.name])
            found.append(what)
        return found

    def _by_shared_stages(self) -> list[Setting]:
        lineages = {
            s.key: list(self.lineage(Combination(s, self.seeds[0])).values()) for s in self.settings
        }
        depth = max(map(len, lineages.values()))
        first: list[dict[str, int]] = [{} for _ in range(depth)]
        for lineage in lineages.values():
            for seen, digest in zip(first, lineage, strict=False):
                seen.setdefault(digest, len(seen))
        return sorted(
            self.settings,
            key=lambda s: [seen[d] for seen, d in zip(first, lineages[s.key], strict=False)],
        )

    def _refuse(
        self, problems: Mapping[str, Sequence[str]], kind: type[LLMDistillError] = ConfigError
    ) -> None:
        """Raise the problems, each with the settings that have it."""
        if not problems:
            return
        lines = [
            text if len(of) == len(self.settings) else f"{' and '.join(of)}:\n{text}"
            for text, of in problems.items()
        ]
        more = len(lines) - SHOWN_PROBLEMS
        raise kind(
            "nothing was run: "
            + "\n".join(lines[:SHOWN_PROBLEMS])
            + (f"\nand {more} more" if more > 0 else "")
        )


def is_done(combination: Combination, file: SweepFile) -> bool:
    """Whether a file that `find_file` gave has a finished run of it.

    Its artifacts need not be there anymore.
    """
    known = file.find(combination.setting.key, combination.seed)
    return known is not None and known.state == "done"


def empty_file(study: Study) -> SweepFile:
    return SweepFile(
        pipeline=study.pipeline.name,
        profile=study.profile,
        places=tuple(axis.place for axis in study.axes),
    )


def find_file(study: Study, output: Path | None) -> tuple[Path, SweepFile, list[str]]:
    """The file that the sweep goes on with, or begins.

    Args:
        study: The sweep.
        output: The file; unless given, the newest of the pipeline's in the workspace whose runs
            belong to this sweep, or a new one.

    Returns:
        The file's path, its content, and what kept the newest one from being gone on with.

    Raises:
        ConfigError: `output` is there, and is of another sweep.
    """
    now = _as_if_done(study)
    if output is not None:
        if not output.exists():
            return output, empty_file(study), []
        known = read_sweep(output)
        apart = why_apart(known, now)
        if apart:
            raise ConfigError(
                f"--output {output} has the runs of another sweep: {'; '.join(apart[:3])}; name "
                "another file"
            )
        return output, known, []
    folder = study.workspace.root / "sweeps" / study.pipeline.name
    why: list[str] = []
    for path in sorted(folder.glob(f"*/{SWEEP}"), key=lambda p: p.parent.name, reverse=True):
        try:
            known = read_sweep(path)
        except ConfigError as error:
            why = why or [str(error)]
            continue
        apart = why_apart(known, now)
        if not apart:
            return path, known, []
        if known.places == now.places:
            why = why or [f"it differs from that of {path}: {'; '.join(apart[:3])}"]
    return _unused(folder) / SWEEP, empty_file(study), why


def _unused(folder: Path) -> Path:
    """Named by the time, beside those of the same second; nothing is made yet."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    names = (stamp if n == 0 else f"{stamp}-{n}" for n in count())
    return next(folder / name for name in names if not (folder / name).exists())


def _as_if_done(study: Study) -> SweepFile:
    """A file as the sweep would write it, without figures, to compare recipes with."""
    file = empty_file(study)
    for setting in study.settings:
        recipe = study.recipe(setting)
        outcome = Outcome(
            settings=dict(setting.values),
            seed=study.seeds[0],
            state="done",
            recipe=recipe_digest(recipe),
        )
        file.put(outcome, recipe)
    return file
