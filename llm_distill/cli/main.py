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
from llm_distill.cli import init, large, prune, schema, sweep
from llm_distill.cli import preview as previewing
from llm_distill.cli import runs as of_runs
from llm_distill.cli import serve as of_serve
from llm_distill.cli import validate as validating
from llm_distill.cli.complete import known_stages, stages_of_run
from llm_distill.cli.complete import runs as complete_runs
from llm_distill.cli.options import (
    DEFAULT_WORKSPACE,
    AsJson,
    File,
    Force,
    From,
    MaxCost,
    NewestRun,
    Profile,
    RetryFailed,
    Run,
    Sets,
    Until,
    WorkspaceDir,
    path_of,
)
from llm_distill.errors import EXIT_CODES, LLMDistillError
from llm_distill.rows.conversation_forms import Form

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


@app.command()
def status(
    run: NewestRun = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show a run's stages: state, rows, dropped, tokens, seconds. The newest run by default."""
    from llm_distill.cli.run import status_command

    status_command(run, workspace)


@app.command()
def push(
    run: Run,
    stage: Annotated[
        str,
        typer.Argument(
            help="The stage whose rows or model are pushed.", autocompletion=stages_of_run
        ),
    ],
    repo_id: Annotated[
        str, typer.Option("--repo-id", help="The repository.", metavar="OWNER/NAME")
    ],
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository public, not private.")
    ] = False,
    license_id: Annotated[
        str | None, typer.Option("--license", help="The card's license.", metavar="ID")
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="A branch, made if there is none.", metavar="BRANCH")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge an adapter into its base first.")
    ] = False,
    conversation_form: Annotated[
        Form | None, typer.Option(help="Write the conversations of rows in this form.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the files and the card; push nothing.")
    ] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Push a stage's rows or model to the Hugging Face Hub, with a card."""
    from llm_distill.cli.push import push_command

    push_command(
        run,
        stage,
        repo_id,
        workspace,
        public=public,
        license_id=license_id,
        merge=merge,
        dry_run=dry_run,
        revision=revision,
        conversation_form=conversation_form,
    )


@app.command()
def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            help="A pipeline's name (its newest run), or name/time.",
            metavar="[RUN]...",
            autocompletion=complete_runs,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file; report.html in the run's folder by default, "
            "compared.html beside the runs' folders for several.",
            parser=path_of,
            metavar="FILE",
        ),
    ] = None,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Write a run's report, one HTML file, and name it. The newest run by default.

    Of several runs one page: their results side by side, and what differs.
    """
    from llm_distill.cli.run import report_command

    report_command(runs or (), workspace, output)


@app.command()
def compare(
    run_a: Run,
    run_b: Annotated[str, typer.Argument(help="The other run.", autocompletion=complete_runs)],
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Show what differs between two runs: settings, stages, results."""
    from llm_distill.cli.compare import compare_command

    compare_command(run_a, run_b, workspace)


class PromptFormat(StrEnum):
    """How a model is prompted."""

    CHAT = "chat"
    TEXT = "text"


@app.command()
def align(
    teacher: Annotated[str, typer.Argument(help="A model's directory or its name on the Hub.")],
    student: Annotated[str, typer.Argument(help="The other model. No weights are read.")],
    file: Annotated[
        str,
        typer.Argument(
            help="A text, or a .jsonl of rows with prompt and completion, messages, or text."
        ),
    ],
    rows: Annotated[int, typer.Option(help="How many rows of a .jsonl are shown.", min=1)] = 3,
    teacher_format: Annotated[
        PromptFormat | None,
        typer.Option(help="The teacher's; chat where its tokenizer has a chat template."),
    ] = None,
    student_format: Annotated[
        PromptFormat | None, typer.Option(help="The student's, likewise.")
    ] = None,
) -> None:
    """Show how two models' tokens align on a text, and how much of it is in chunks."""
    from llm_distill.cli.align import align_command

    align_command((teacher, student), (teacher_format, student_format), file, rows)


cache_app = typer.Typer(help="What models have written: kept, and never paid for twice.")
app.add_typer(cache_app, name="cache", no_args_is_help=True)


@cache_app.command("stats")
def cache_stats(workspace: WorkspaceDir = DEFAULT_WORKSPACE) -> None:
    """Show what is kept of each model: completions, tokens, cost."""
    from llm_distill.cli.cache import stats_command

    stats_command(workspace)


@cache_app.command("prune")
def cache_prune(
    model: Annotated[
        str | None, typer.Option(help="Only this model's, named as `cache stats` does.")
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", help="Only what is older than this.", metavar="DAYS", min=0),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Delete; without it, only count.")] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Delete completions that are no longer needed, and make the file smaller.

    With --older-than alone also what stopped stages left, such as a training's checkpoints.
    """
    from llm_distill.cli.cache import prune_command

    prune_command(workspace, model, older_than, delete=yes)


@cache_app.command("verify")
def cache_verify(
    repair: Annotated[
        bool, typer.Option("--repair", help="Set a damaged file aside and save what can be read.")
    ] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Read and check everything that is kept."""
    from llm_distill.cli.cache import verify_command

    verify_command(workspace, repair=repair)


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
