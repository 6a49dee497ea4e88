"""`llm-distill schema`: the pipeline file as a JSON Schema, for editors.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import path_of


def schema(
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file; without it, the schema is printed.", parser=path_of, metavar="FILE"
        ),
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Without the stages of other installed packages.")
    ] = False,
) -> None:
    """Print the JSON Schema of pipeline files, with every stage and engine that is installed."""
    from llm_distill.errors import ConfigError, WorkspaceError
    from llm_distill.pipeline.json_schema import TITLE, schema_text
    from llm_distill.pipeline.registry import own_stage_names, stage_names

    text = schema_text(own_stage_names() if own else stage_names())
    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        if out.is_file() and TITLE not in out.read_text(encoding="utf-8", errors="replace")[:1000]:
            raise ConfigError(f"{out} is there and is not a schema of ours; choose another name")
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"{out}: written; put this above a pipeline file that lies beside it:")
    typer.echo(f"# yaml-language-server: $schema={out.name}")
