"""`llm-distill serve`: a model of a run behind OpenAI's protocol.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, Run, StudentName, WorkspaceDir

HOST = "127.0.0.1"


class Server(StrEnum):
    """What serves."""

    VLLM = "vllm"
    TRANSFORMERS = "transformers"


def serve(
    run: Run,
    stage: StudentName = None,
    others: Annotated[
        list[str] | None,
        typer.Argument(help="After --: any options of the server's own.", metavar="-- OPTIONS"),
    ] = None,
    server: Annotated[
        Server | None,
        typer.Option("--with", help="vLLM where it is installed, else transformers' own server."),
    ] = None,
    host: Annotated[str, typer.Option(help="Where it listens; others may reach 0.0.0.0.")] = HOST,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    merge: Annotated[
        bool, typer.Option("--merge", help="Merge the adapters first, for vLLM too.")
    ] = False,
    timeout: Annotated[float, typer.Option(help="Seconds until it has to answer.", min=1)] = 1800.0,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Serve a run's model until Ctrl-C, and show a request that works."""
    from llm_distill.cli.serving import Serving, serve_command

    given = tuple(others or ())
    if stage is not None and stage.startswith("-"):  # the first after --, where no stage is named
        given, stage = (stage, *given), None
    serving = Serving(server, host, port, merge, timeout, given)
    serve_command(run, stage, workspace, serving)
