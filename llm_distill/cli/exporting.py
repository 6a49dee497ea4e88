"""What `export` does: a folder that is whole or not there, and compared with the model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.markup import escape

from llm_distill import __version__
from llm_distill.cli.display import console, quiet_libraries, say
from llm_distill.errors import ConfigError, ModelError, WorkspaceError, counted, sized
from llm_distill.models.files import readable_as_its_folder
from llm_distill.publish.export import (
    DType,
    Exported,
    Form,
    GGUFType,
    check_installed,
    write_compressed,
    write_gguf,
    write_merged,
)
from llm_distill.publish.likeness import MOST_ROUNDING, likeness
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.runtime.disk import disk_explained, write_durably
from llm_distill.runtime.finished import FinishedRun, open_run
from llm_distill.runtime.prompt_form import chosen_model
from llm_distill.runtime.writer import read_rows
from llm_distill.stage import models_of

NOTE = "export.json"
"""What an export says of itself; only a folder with it is replaced."""
CALIBRATED_BY, COMPARED_BY = 256, 32
"""Texts."""
PLAIN_TEXTS = (
    "The quick brown fox jumps over the lazy dog. It had rained all night, and the path was wet.",
    "Question: Anna has 12 apples and gives 5 of them to Tom. How many are left?\nAnswer: 7",
)
"""What a model that the run did not train is compared by."""


@dataclass(frozen=True)
class Export:
    """The options of `export`."""

    to: Form
    out: Path | None = None
    dtype: DType | None = None
    gguf_type: GGUFType = "f16"
    llama_cpp: Path | None = None
    force: bool = False


def export_command(run: str, stage: str | None, root: Path, asked: Export) -> None:
    """Write the model, load it again and compare; the folder is there only if all of it worked."""
    if asked.dtype is not None and asked.to != "merged":
        raise ConfigError("--dtype goes with --to merged")
    converter = check_installed(asked.to, asked.llama_cpp)
    quiet_libraries()
    out = console()
    finished = open_run(run, root, says=say)
    name, why = chosen_model(finished, stage)
    engine = finished.model_config(name).engine.answering()
    if not engine.has_weights_here() or engine.is_stand_in:
        raise ConfigError(
            f"'{name}' has engine.kind: {engine.kind}: there are no weights to export"
        )
    out.print(f"from {escape(finished.record.described)}")
    if why:
        out.print(f"{escape(name)} ({escape(why)})")
    named = f"{finished.pipeline.name}-{name}-{asked.to}".replace("@", "-")
    target = asked.out if asked.out is not None else Path.cwd() / named
    source = finished.model(name)
    texts = list(islice(_texts(finished, name), CALIBRATED_BY))
    with _new_folder(target, asked.force) as folder, TemporaryDirectory() as work:
        place = Path(work) / "merged"
        if asked.to == "merged":
            written = write_merged(source, folder, asked.dtype)
        elif asked.to == "gguf":
            written = write_gguf(source, folder, place, converter, asked.gguf_type)
        else:
            written = write_compressed(source, folder, place, asked.to, texts)
        readable_as_its_folder(folder)
        out.print(f"written: {_sizes(written)}; loading it again")
        found = likeness(source, folder, (texts or PLAIN_TEXTS)[:COMPARED_BY], written.gguf)
        out.print(escape(str(found)))
        in_full = source.adapters and asked.dtype in (None, "float32") and asked.to == "merged"
        if in_full and source.dtype in ("auto", "float32") and found.largest > MOST_ROUNDING:
            raise ModelError(
                f"the merged model is not the one that it was made from: {found}; nothing is kept"
            )
        note = {
            "run": finished.record.name,
            "stage": name,
            "to": asked.to,
            "dtype": asked.dtype,
            "gguf": written.gguf,
            "compared": found.as_json(),
            "llm-distill": __version__,
        }
        write_durably(folder / NOTE, json.dumps(note, indent=2) + "\n")
    out.print(f"{escape(name)} as {asked.to} in {escape(str(target))}")


def _sizes(written: Exported) -> str:
    sizes = [file.stat().st_size for file in written.folder.rglob("*") if file.is_file()]
    return f"{counted(len(sizes), 'file')}, {sized(sum(sizes))}"


def _texts(run: FinishedRun, name: str) -> Iterator[str]:
    """Texts as the model was trained on them; none of a model that the run did not train."""
    stages = run.pipeline.stages
    while name in stages and not hasattr(stages[name], "labelled"):
        name = models_of(stages[name])[0]
    stage = stages.get(name)
    if stage is None:
        return
    examples = stage.labelled(run.model(models_of(stage)[0]))  # type: ignore[attr-defined]
    for row in read_rows(run.artifact(str(dict(stage)["rows"])).path):
        try:
            for example in examples(row):
                yield "".join(text for text, _, _ in example)
        except UnusableRowError:  # which the training left out
            continue


@contextmanager
def _new_folder(target: Path, replaces: bool) -> Iterator[Path]:
    """A folder beside the target, which takes its name once all is written.

    Raises:
        WorkspaceError: the target is there and may not be replaced, or cannot be written.
    """
    target = target.expanduser().absolute()
    if target.exists():
        if not replaces:
            raise WorkspaceError(f"--out: {target} is there; name another, or add --force")
        if not (target / NOTE).is_file():
            raise WorkspaceError(f"--out: {target} is not an export (no {NOTE}); name another")
    building = target.with_name(f".{target.name}.new-{os.getpid()}")
    with disk_explained(target.parent, "--out: "):
        building.mkdir(parents=True)
        try:
            yield building
            before = target.with_name(f".{target.name}.old-{os.getpid()}")
            if target.exists():
                target.rename(before)
            try:
                building.rename(target)
            except OSError:
                if before.exists():
                    before.rename(target)
                raise
            shutil.rmtree(before, ignore_errors=True)
        finally:
            shutil.rmtree(building, ignore_errors=True)
