"""The files of a start: a pipeline of at most 25 lines, its templates, data and schema."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from llm_distill.errors import ConfigError, WorkspaceError
from llm_distill.hints import Given
from llm_distill.paths import bundled_root
from llm_distill.pipeline.json_schema import schema_text
from llm_distill.pipeline.registry import stage_names
from llm_distill.starter.data import Data, Item
from llm_distill.starter.methods import Method
from llm_distill.starter.models import Local, Served

PARTS = ("train", "seeds", "validation", "test")
MOST_DRAFTS, DRAFTS_OF_A_SEED = 480, 12
"""Questions that ARTE's teacher drafts, as many in all as in arte.yaml."""
MOST_SCORED = 96
SKELETONS = Path(__file__).parent / "skeletons"


@dataclass(frozen=True)
class Start:
    """Everything that a start says.

    folder: where the files go. prompt_format: the student's, chat or text.
    """

    folder: Path
    method: Method
    data: Data
    parts: Mapping[str, Sequence[Item]]
    teacher: Served | Local
    student: Local
    prompt_format: str
    task: str
    seed: int

    @property
    def file(self) -> Path:
        return self.folder / f"{self.folder.name}.yaml"


def files_of(start: Start) -> dict[Path, str]:
    """What is written, by its place."""
    folder, is_free = start.folder, start.data.kind.compared_as is None
    files = {start.file: _pipeline(start)}
    if start.method is Method.SFT:
        asked, answered = (
            ("free/ask", "free/answer") if is_free else ("arte/rationale", "arte/exam")
        )
        files[folder / "teacher.jinja"] = _prompt(asked)
        is_chat = is_free and start.prompt_format == "chat"
        files[folder / "student.jinja"] = _prompt(asked if is_chat else answered)
    for name, items in start.parts.items():
        lines = (item.as_json() + "\n" for item in items)
        files[folder / "data" / f"{name}.jsonl"] = "".join(lines)
    files[folder / "schema.json"] = schema_text(stage_names())
    return files


def write(files: Mapping[Path, str], folder: Path, *, force: bool) -> None:
    """Write the files; those that are there already only with `force`, unless they are the same.

    Raises:
        ConfigError: some are there, and say something else. Nothing is written then.
        WorkspaceError: the disk refuses.
    """
    try:
        there = [path for path, text in files.items() if _says_something_else(path, text)]
        parts = [folder / "data" / f"{name}.jsonl" for name in PARTS]
        stale = [path for path in parts if path.exists() and path not in files]
        if (there or stale) and not force:
            listed = ", ".join(map(str, [*there, *stale]))
            raise ConfigError(
                f"already there: {listed}; take another NAME, or --force to write over them"
            )
        for path in stale:
            path.unlink()
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkspaceError(f"{error.filename or folder}: {error.strerror}") from error


def _says_something_else(path: Path, text: str) -> bool:
    if path.name == "schema.json" and path.is_file():
        return False  # of another version, perhaps: it is only for the editor
    return path.exists() and path.read_bytes() != text.encode("utf-8")


def _prompt(name: str) -> str:
    return (bundled_root() / "prompts" / f"{name}.jinja").read_text(encoding="utf-8")


def _pipeline(start: Start) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    kind, student = start.data.kind.compared_as, start.student
    is_served = isinstance(start.teacher, Served)
    teacher_is_tiny = isinstance(start.teacher, Local) and start.teacher.is_tiny
    is_tiny = teacher_is_tiny and student.is_tiny
    sizes = {name: len(items) for name, items in start.parts.items()}
    n_seeds = sizes.get("seeds", 1)
    n_chosen = max(10, min(500, sizes.get("train", 0) // 2))
    skeleton = "sft_free" if kind is None else start.method.value
    jinja = Environment(
        loader=FileSystemLoader(SKELETONS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return jinja.get_template(f"{skeleton}.yaml.jinja").render(
        head=_head(start),
        name=start.folder.name,
        seed=start.seed,
        task=json.dumps(start.task, ensure_ascii=False),
        teacher=_entry(start.teacher, None),
        student=_entry(student, start.prompt_format),
        teacher_template=_plain(str(start.folder / "teacher.jinja")),
        student_template=_plain(str(start.folder / "student.jinja")),
        data=_plain(str(start.folder / "data")),
        has_answers=start.data.has_answers,
        kind=kind,
        max_tokens=128 if is_tiny else 512,
        stop=', stop: ["\\nQuestion:"]' if start.prompt_format == "text" else "",
        training=_flow(student.training(sizes.get("train", 0))),
        student_is_tiny=student.is_tiny,
        is_served=is_served,
        is_tiny=is_tiny,
        teacher_is_tiny=teacher_is_tiny,
        n_drafts=min(DRAFTS_OF_A_SEED, MOST_DRAFTS // n_seeds),
        n_scored=min(MOST_SCORED, 2 * n_seeds),
        n_chosen=n_chosen,
        n_sized=round(0.8 * n_chosen),
    )


def _head(start: Start) -> str:
    command = Given(str(start.file)).command("run", of_file=True)
    return (
        "# yaml-language-server: $schema=schema.json\n"
        f"# {start.method.upper()}: {start.method.about}. {command}"
    )


def _entry(model: Served | Local, prompt_format: str | None) -> str:
    entry: dict[str, Any] = {"model_name_or_path": model.name}
    if prompt_format == "text":
        entry["prompt_format"] = prompt_format
    if isinstance(model, Served):
        engine = {"kind": "openai", "base_url": model.base_url}
        if model.api_key_env != "OPENAI_API_KEY":
            engine["api_key_env"] = model.api_key_env
        entry["engine"] = engine
    return "{" + _flow(entry) + "}"


def _flow(values: Mapping[str, Any]) -> str:
    """`a: 1, b: {c: d}`, as within braces."""
    return ", ".join(f"{name}: {_value(value)}" for name, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + _flow(value) + "}"
    if isinstance(value, float) and value < 0.01:
        return f"{value:.1e}".replace("e-0", "e-")  # YAML takes 5e-5 for text
    return _plain(value) if isinstance(value, str) else json.dumps(value)


def _plain(text: str) -> str:
    """A text as YAML, in quotes where it has to be."""
    is_plain = re.fullmatch(r"[\w./@-]+", text) and yaml.safe_load(text) == text
    return text if is_plain else json.dumps(text, ensure_ascii=False)
