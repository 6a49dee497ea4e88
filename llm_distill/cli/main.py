"""The commands. Turns errors for users into one message and an exit code.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from llm_distill.cli import ask as of_ask
from llm_distill.cli import export as of_export
from llm_distill.cli import init, large, prune, results, schema, sweep, texts
from llm_distill.cli import preview as previewing
from llm_distill.cli import runs as of_runs
from llm_distill.cli import serve as of_serve
from llm_distill.cli import validate as validating
from llm_distill.cli.complete import known_stages
from llm_distill.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    File,
    Force,
    From,
    MaxCost,
    Profile,
    RetryFailed,
    Sets,
    Until,
    WorkspaceDir,
)
from llm_distill.errors import EXIT_CODES, LLMDistillError

EXIT_CODE_LINES = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in EXIT_CODES.items())

ORDER = (
    "init", "validate", "preview", "plan", "stages", "schema",
    "run", "sweep", "rehearse", "slurm",
    "status", "runs", "report", "compare", "ask", "serve", "export", "path", "push",
    "align", "cache", "prune",
)  # fmt: skip
"""Of the commands in the help: in, run, out, besides. As in the README."""


class _InOrder(typer.core.TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=ORDER.index)


app = typer.Typer(
    name="llm-distill",
    cls=_InOrder,
    help="Make a small language model good at a task with the help of a large one.",
    epilog=f"\b\nExit codes:\n{EXIT_CODE_LINES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


class LogFormat(StrEnum):
    """What `run` prints."""

    TEXT = "text"
    JSON = "json"


app.command()(init.init)


@app.command()
def run(
    file: File,
    profile: Profile = None,
    assignments: Sets = None,
    until: Until = None,
    start: From = None,
    force: Force = None,
    retry_failed: RetryFailed = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    max_cost: MaxCost = None,
    log_format: Annotated[
        LogFormat, typer.Option("--log-format", help="For people, or a line of JSON per event.")
    ] = LogFormat.TEXT,
) -> None:
    """Run a pipeline; what is already done is reused."""
    from llm_distill.cli.run import run_command
    from llm_distill.runtime.plan import Selection

    selection = Selection(start, until, tuple(force or ()), retry_failed)
    run_command(
        file,
        profile,
        assignments or [],
        selection=selection,
        root=workspace,
        max_cost=max_cost,
        as_events=log_format is LogFormat.JSON,
    )


app.command()(validating.validate)
app.command()(large.rehearse)
app.command()(large.slurm)
app.command()(sweep.sweep)
app.command()(prune.prune)
app.command()(schema.schema)
app.command()(of_ask.ask)
app.command()(of_serve.serve)
app.command()(of_export.export)
app.command()(of_runs.runs)
app.command()(of_runs.path)


@app.command()
def plan(
    file: File,
    profile: Profile = None,
    assignments: Sets = None,
    until: Until = None,
    start: From = None,
    force: Force = None,
    retry_failed: RetryFailed = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
    as_json: AsJson = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Ask servers for their models too, with their keys.")
    ] = False,
) -> None:
    """Show for each stage whether it would be reused or run, why, and what it takes.

    What would stop the run for certain is said, with an exit code that is not 0.
    """
    from llm_distill.cli.plan import plan_command
    from llm_distill.runtime.plan import Selection

    selection = Selection(start, until, tuple(force or ()), retry_failed)
    given = file, profile, assignments or []
    plan_command(*given, selection=selection, root=workspace, as_json=as_json, deep=deep)


app.command()(previewing.preview)


@app.command()
def stages(
    name: Annotated[
        str | None,
        typer.Argument(help="One stage, with all its settings.", autocompletion=known_stages),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON, with the settings of all of them.")
    ] = False,
) -> None:
    """List the stages, or show one with its settings, their defaults and meaning."""
    from llm_distill.cli.stages import describe_stage, list_stages, stages_as_json

    if as_json:
        stages_as_json(name)
    elif name is None:
        list_stages()
    else:
        describe_stage(name)


app.command()(results.status)
app.command()(results.push)
app.command()(results.report)
app.command()(results.compare)
app.command()(texts.align)
app.add_typer(texts.cache, name="cache", no_args_is_help=True)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from llm_distill import __version__

        typer.echo(f"llm-distill {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: errors for users become one message; others keep their traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it lacks must not end a run
            stream.reconfigure(errors="replace")
    try:
        app()
    except LLMDistillError as error:
        _end(str(error), error.exit_code)
    except OSError as error:
        _end(*_refused(error))


def _refused(error: OSError) -> tuple[str, int]:
    """What to say where the disk has refused something, and the exit code; raises other errors."""
    from llm_distill.runtime.disk import disk_error

    explained = disk_error(error, Path.cwd())
    if explained is None:
        raise error
    if error.filename is not None or _output_works():
        return str(explained), explained.exit_code
    said = f"the output cannot be written: {error.strerror}; write it to another place"
    before: BaseException | None = error
    while before is not None and not isinstance(before, LLMDistillError):
        before = before.__context__
    if before is None:
        return said, explained.exit_code
    return f"{before}\n{said}", before.exit_code  # it was being said when that happened


def _end(message: str, code: int) -> NoReturn:
    with suppress(OSError):  # standard error may be on a full disk too
        typer.echo(f"error: {message}", err=True)
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python would try again, and complain
    sys.exit(code)


def _output_works() -> bool:
    try:
        print(flush=True)
    except (OSError, ValueError):
        return False
    return True
