"""What `llm-distill sweep` does: check, run what is missing, show the figures."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from llm_distill.cli.display import TerminalDisplay, console, make_table, quiet_libraries, say
from llm_distill.cli.run import show_before, stop_as_after_ctrl_c, write_or_find_report
from llm_distill.cli.sweep_tables import as_json, tables
from llm_distill.errors import ConfigError, LLMDistillError, counted, few, nearest
from llm_distill.hints import Given
from llm_distill.report.sweep_page import write_page
from llm_distill.runtime.artifact import Workspace
from llm_distill.sweeps.carry_out import carry_out
from llm_distill.sweeps.existing import sweep_of_runs
from llm_distill.sweeps.figures import Row, check_baseline, read_baseline, read_where, rows_of
from llm_distill.sweeps.grid import Axis, described, read_axis, read_seeds
from llm_distill.sweeps.merge import merged
from llm_distill.sweeps.notes import notes
from llm_distill.sweeps.outcomes import Outcome, SweepFile, read_sweep
from llm_distill.sweeps.study import Combination, Study, find_file, is_done


@dataclass(frozen=True)
class Shown:
    """What is shown of a sweep, and where its file is written."""

    baseline: Sequence[str]
    stages: Sequence[str]
    where: Sequence[str]
    output: Path | None
    root: Path
    as_json: bool

    def console(self) -> Console:
        """Where to say how it goes: beside the JSON, if that is asked for."""
        return Console(stderr=True, highlight=False) if self.as_json else console()


class _Watcher:
    """Names each run before it begins; what it does is shown as `run` shows it."""

    def __init__(self, out: Console, given: Given) -> None:
        self._out, self._given = out, given

    def begins(self, combination: Combination, number: int, total: int) -> TerminalDisplay:
        what = escape(combination.described)
        self._out.print(f"\n[bold]run {number} of {total}: {what}[/bold]")
        return TerminalDisplay(self._out)

    def ends(self, outcome: Outcome) -> None:
        if outcome.state == "done":
            self._out.print(f"done: {outcome.run}")
        else:
            self._out.print(f"[red]failed[/red]: {escape(outcome.why)}")
            if outcome.run:
                logs = self._given.command("status", outcome.run)
                self._out.print(f"its logs: {escape(logs)}", soft_wrap=True)


def sweep_command(
    file: str,
    profile: str | None,
    assignments: Sequence[str],
    seeds: str | None,
    shown: Shown,
    *,
    only_plan: bool,
    max_cost: float | None,
    retry_failed: bool,
) -> None:
    """Run all combinations that have no finished run, then show all.

    Raises:
        LLMDistillError: a combination is wrong, and nothing has run.
        SystemExit: some runs failed; the others are shown.
    """
    quiet_libraries()
    out = shown.console()
    given = Given(file, profile, workspace=str(shown.root))
    given.remember()
    workspace = Workspace(shown.root)
    axes = [read_axis(text) for text in assignments]
    study = Study.checked(file, profile, axes, read_seeds(seeds) if seeds else (), workspace)
    _check_asked(study, axes, shown)
    if not only_plan:
        workspace.prepare()
    path, known, why = find_file(study, shown.output)
    combinations = study.combinations()
    todo = [each for each in combinations if not is_done(each, known)]
    if retry_failed:
        todo = combinations
    for warning in study.preflight([s for s in study.settings if s in [c.setting for c in todo]]):
        say(warning, out)
    out.print(
        f"[bold]{study.pipeline.name}[/bold] from {escape(study.pipeline.source)}: "
        f"{_grid(study)}; {len(combinations) - len(todo)} done before, {len(todo)} to run"
    )
    for line in why:
        out.print(f"a new sweep is begun: {line}", markup=False)
    if only_plan:
        _show_plan(study, combinations, todo, shown, out)
        return
    stop_as_after_ctrl_c()
    out.print(f"its file: {escape(str(path))}")
    show_before(out, study.pipeline)
    try:
        error = carry_out(
            study,
            todo,
            path,
            known,
            _Watcher(out, given),
            report=lambda record: write_or_find_report(record, workspace, lambda m: say(m, out)),
            max_cost=max_cost,
            retry_failed=retry_failed,
        )
    except KeyboardInterrupt:
        kept = f"the runs that have ended are in {escape(str(path))}; " if path.exists() else ""
        out.print(
            f"\n[yellow]stopped[/yellow]: {kept}the same command goes on with what is missing"
        )
        raise SystemExit(130) from None
    mine = {(each.setting.key, each.seed) for each in combinations}
    ours = known.model_copy(
        update={"runs": [run for run in known.runs if (run.setting, run.seed) in mine]}
    )
    others = len(known.runs) - len(ours.runs)
    if others:
        out.print(f"{counted(others, 'run')} of other seeds or settings in the file: not shown")
    ours.runs.sort(key=_order(combinations))
    if ours.done():
        _show(ours, path, shown, out)
    if error is not None:
        n = sum(run.state == "failed" for run in ours.runs)
        print(f"error: {n} of {counted(len(combinations), 'run')} failed", file=sys.stderr)
        raise SystemExit(error.exit_code if isinstance(error, LLMDistillError) else 1)


def _check_asked(study: Study, axes: Sequence[Axis], shown: Shown) -> None:
    """Refuse before the first run what would be refused after the last."""
    pipeline = study.pipeline
    check_baseline(shown.baseline, [*pipeline.models, *pipeline.stages], axes)
    for stage in shown.stages:
        if stage not in pipeline.stages:
            raise ConfigError(f"--stage {stage}: {pipeline.why_no_stage(stage)}")


def show_files(paths: Sequence[Path], seeds: str | None, shown: Shown) -> None:
    """Show the figures of files that sweeps wrote; several are put together.

    Raises:
        ConfigError: they do not belong together.
    """
    out = shown.console()
    whole = merged([(str(path), read_sweep(path)) for path in paths])
    path = _written(_of_seeds(whole, seeds), shown, out)
    _show(_of_seeds(whole, seeds), path, shown, out)


def show_runs(names: Sequence[str], profile: str | None, seeds: str | None, shown: Shown) -> None:
    """Show the figures of runs that there are, with what is left out and why."""
    out = shown.console()
    workspace = Workspace(shown.root)
    wanted = read_seeds(seeds) if seeds else ()
    whole, left_out = sweep_of_runs(names, workspace, wanted, profile)
    for line in left_out:
        out.print(f"left out: {line}", markup=False)
    _show(whole, _written(whole, shown, out), shown, out)


def _of_seeds(file: SweepFile, seeds: str | None) -> SweepFile:
    if seeds is None:
        return file
    wanted = set(read_seeds(seeds))
    runs = [run for run in file.runs if run.seed in wanted]
    missing = wanted - {run.seed for run in runs}
    if missing:
        raise ConfigError(f"--seeds {seeds}: no run has seed {min(missing)}")
    return file.model_copy(update={"runs": runs})


def _written(file: SweepFile, shown: Shown, out: Console) -> Path | None:
    if shown.output is not None:
        if shown.output.exists():
            raise ConfigError(f"--output {shown.output}: it is there already; name a new file")
        file.save(shown.output)
        out.print(f"its file: {escape(str(shown.output))}")
    return shown.output


def _show(file: SweepFile, path: Path | None, shown: Shown, out: Console) -> None:
    """Tables, or JSON; beside the file a page.

    Raises:
        ConfigError: there is nothing to show of what was asked for.
    """
    rows = rows_of(file, read_baseline(shown.baseline, file), read_where(shown.where, file))
    stages = {row.stage for row in rows}
    for stage in shown.stages:
        if stage not in stages:
            raise ConfigError(f"--stage {stage}: it has no figures; {nearest(stage, stages)}")
    rows = [row for row in rows if not shown.stages or row.stage in shown.stages]
    said = notes(file, rows)
    if shown.as_json:
        print(json.dumps(as_json(file, rows, said, path), indent=1, ensure_ascii=False))
    elif not rows:
        out.print("nothing was measured: no stage is an evaluation or shows figures of its own")
    else:
        for table in tables(rows, shown.where):
            out.print(table)
        for line in said:
            out.print(f"- {line}", markup=False)
    if path is not None:
        _page(file, rows, said, path, shown, out)


def _page(
    file: SweepFile,
    rows: Sequence[Row],
    said: Sequence[str],
    path: Path,
    shown: Shown,
    out: Console,
) -> None:
    """An error here hides no figure."""
    page = path.with_suffix(".html")
    try:
        write_page(page, file, rows, said, shown.root, tuple(shown.where))
    except Exception as error:
        say(f"no page: {error or type(error).__name__}", out)
    else:
        out.print(f"page: {escape(str(page))}")


def _order(combinations: Sequence[Combination]) -> Any:
    settings = list(dict.fromkeys(each.setting.key for each in combinations))
    return lambda run: (settings.index(run.setting), run.seed)


def _grid(study: Study) -> str:
    """`5 seeds × 2 settings = 10 runs`."""
    seeds, settings = len(study.seeds), len(study.settings)
    return (
        f"{counted(seeds, 'seed')} × {counted(settings, 'setting')} = "
        f"{counted(seeds * settings, 'run')}"
    )


def _show_plan(
    study: Study,
    combinations: Sequence[Combination],
    todo: Sequence[Combination],
    shown: Shown,
    out: Console,
) -> None:
    """A line for each run: what it would run, reuse, and find made by one before it."""
    what = dict(zip(map(id, todo), study.what_runs(todo), strict=True))
    listed = []
    for each in combinations:
        stages = what.get(id(each))
        by: dict[str, list[str]] = {"run": [], "shared": [], "reuse": []}
        for name, action in (stages or {}).items():
            by[action].append(name)
        listed.append((each, stages is None, by))
    if shown.as_json:
        runs = [
            {"seed": c.seed, "settings": dict(c.setting.values), "done": done, **by}
            for c, done, by in listed
        ]
        print(json.dumps({"pipeline": study.pipeline.name, "runs": runs}, indent=1, default=str))
        return
    table = make_table("seed", "setting", "runs", right=("run", "shared", "reused"))
    for each, done, by in listed:
        numbers = ("", "", "") if done else tuple(str(len(stages)) for stages in by.values())
        names = "finished before" if done else few(by["run"], 6)
        setting = described(each.setting.values)
        table.add_row(str(each.seed), escape(setting), escape(names), *numbers)
    out.print(table)
    total = _total(listed)
    out.print(
        f"{counted(total['run'], 'stage')} to run, {total['shared']} made by a run before it, "
        f"{total['reuse']} there already"
    )


def _total(
    listed: Sequence[tuple[Combination, bool, Mapping[str, Sequence[str]]]],
) -> dict[str, int]:
    return {
        action: sum(len(by[action]) for _, _, by in listed) for action in ("run", "shared", "reuse")
    }
