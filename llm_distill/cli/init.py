"""`llm-distill init`: a folder with a pipeline for somebody's data.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import path_of


class MethodName(StrEnum):
    """As `starter.methods.Method`, which is heavy."""

    SFT = "sft"
    ARTE = "arte"
    STAT = "stat"
    ALM = "alm"


class AnswersName(StrEnum):
    """As `starter.kinds.Answers`."""

    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"
    FREE = "free"


class FormatName(StrEnum):
    """How the student is prompted."""

    CHAT = "chat"
    TEXT = "text"


def init(
    name: Annotated[
        Path | None,
        typer.Argument(
            help="The folder; unless given, it is called as the data.",
            parser=path_of,
            metavar="[NAME]",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="CSV, TSV, JSON Lines, JSON or Parquet, a folder of them, or a name on the Hub.",
            metavar="PATH",
        ),
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            help="A model's folder or name on the Hub, or the address of a server that speaks "
            "OpenAI's protocol: http://localhost:8000/v1.",
            metavar="MODEL|URL",
        ),
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(help="A model's folder or name on the Hub.", metavar="MODEL"),
    ] = None,
    method: Annotated[
        MethodName | None, typer.Option(help="sft unless given; --list says what each does.")
    ] = None,
    question: Annotated[
        str | None,
        typer.Option(
            help="The column with the questions, or several with commas between them.",
            metavar="COLUMN",
        ),
    ] = None,
    answer: Annotated[
        str | None,
        typer.Option(
            help='The column with the right answers; "" if there is none.', metavar="COLUMN"
        ),
    ] = None,
    answers: Annotated[
        AnswersName | None,
        typer.Option(help="What the answers are: number, choice, a few words (text), or free."),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What every prompt opens with.", metavar="TEXT"),
    ] = None,
    teacher_model: Annotated[
        str | None,
        typer.Option(help="The teacher's name on the server.", metavar="NAME"),
    ] = None,
    api_key_env: Annotated[
        str,
        typer.Option(help="The environment variable with the server's key.", metavar="VARIABLE"),
    ] = "OPENAI_API_KEY",
    student_format: Annotated[
        FormatName | None,
        typer.Option(help="How the student is prompted; chat where it has a chat template."),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="A configuration of the data, such as main.", metavar="NAME"),
    ] = None,
    split: Annotated[
        str, typer.Option(help="The split of the data that is read, or a part: train[:1000].")
    ] = "train",
    test: Annotated[
        float,
        typer.Option(help="The share of the rows that is kept for the exam: above 0, below 1."),
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Divides the rows, and seeds the run.", min=0)] = 7,
    force: Annotated[bool, typer.Option("--force", help="Write over files.")] = False,
    list_them: Annotated[
        bool, typer.Option("--list", help="List the methods and the shipped pipelines.")
    ] = False,
) -> None:
    """Write a pipeline for your own data: a folder that runs as it stands.

    What is not given is asked, if there is a terminal.
    """
    from llm_distill.cli.starting import Given, init_command, list_command

    if list_them:
        list_command()
        return
    init_command(
        Given(
            folder=name,
            data=data,
            teacher=teacher,
            student=student,
            method=method and method.value,
            question=question,
            answer=answer,
            answers=answers and answers.value,
            task=task,
            teacher_model=teacher_model,
            api_key_env=api_key_env,
            student_format=student_format and student_format.value,
            config=config,
            split=split,
            test=test,
            seed=seed,
        ),
        force=force,
    )
