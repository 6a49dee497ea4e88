"""`llm-distill export`: a model of a run, as other programs load it.

Nothing heavy is imported at the top: `--help` answers at once.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from llm_distill.cli.options import DEFAULT_WORKSPACE, Run, StudentName, WorkspaceDir, path_of


class To(StrEnum):
    """What it becomes."""

    MERGED = "merged"
    GGUF = "gguf"
    FP8 = "fp8"
    W4A16 = "w4a16"


class Precision(StrEnum):
    """Of merged weights."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


class GGUFType(StrEnum):
    """Of a GGUF's weights."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"


def export(
    run: Run,
    to: Annotated[
        To, typer.Option("--to", help="Safetensors; llama.cpp's format; 8 or 4 bits for vLLM.")
    ],
    stage: StudentName = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="The folder; made anew. Unless given, ./PIPELINE-STAGE-TO.",
            parser=path_of,
            metavar="DIR",
        ),
    ] = None,
    dtype: Annotated[
        Precision | None,
        typer.Option(help="Of merged; float32 for an adapter, else as saved, unless given."),
    ] = None,
    gguf_type: Annotated[GGUFType, typer.Option(help="Of gguf.")] = GGUFType.F16,
    llama_cpp: Annotated[
        Path | None,
        typer.Option(help="A clone of llama.cpp, for gguf.", parser=path_of, metavar="DIR"),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    workspace: WorkspaceDir = DEFAULT_WORKSPACE,
) -> None:
    """Write a run's model for other programs, load it again, and say how like it is."""
    from llm_distill.cli.exporting import Export, export_command

    asked = Export(
        to.value,
        out,
        None if dtype is None else dtype.value,
        gguf_type.value,
        llama_cpp,
        force,
    )
    export_command(run, stage, workspace, asked)
