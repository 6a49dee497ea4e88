"""`llm-distill ask`: the models of a run answer questions.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, Run, StudentName, WorkspaceDir, path_of


def ask(
    run: Run,
    stage: StudentName = None,
    question: Annotated[
        list[str] | None,
        typer.Option("-q", help="Ask this and end. Repeatable.", metavar="TEXT"),
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            help="Ask all of a file: rows (.jsonl, .csv, …), or a question a line (.txt).",
            parser=path_of,
            metavar="FILE",
        ),
    ] = None,
    question_column: Annotated[
        str | None,
        typer.Option(
            "--question", help="The column of --file with the questions.", metavar="COLUMN"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Write answers there, as JSONL.", parser=path_of, metavar="FILE"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the file of --out.")] = False,
    beside: Annotated[
        list[str] | None,
        typer.Option(help="Another model that answers beside it. Repeatable.", metavar="MODEL"),
    ] = None,
    raw: Annotated[
        bool, typer.Option("--raw", help="The text as typed: no template, no chat.")
    ] = False,
    shots: Annotated[
        int | None,
        typer.Option(help="Worked examples of the exam in the prompt; its fewest by default."),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="A system message that comes first.", metavar="TEXT")
    ] = None,
    temperature: Annotated[float, typer.Option(help="0 is greedy decoding.", min=0)] = 0.0,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", help="Tokens of an answer; as the exam has it.", min=1),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of answers at a temperature.", min=0)] = 0,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Ask a run's student, beside its teacher or its earlier self. Without a question: a chat."""
    from llm_distill.cli.asking import Asked, ask_command

    ask_command(
        run,
        stage,
        workspace,
        Asked(
            questions=tuple(question or ()),
            file=file,
            question_column=question_column,
            out=out,
            force=force,
            beside=tuple(beside or ()),
            raw=raw,
            shots=shots,
            system=system,
            temperature=temperature,
            max_tokens=max_tokens,
            seed=seed,
        ),
    )
