"""Read a list of skills that a person wrote or edited.

in:  word_problems: [addition, Making change]    (skills.yaml)
out: {"id": "word_problems/addition", "task": "word_problems", "skill": "addition", "count": null},
     {"id": "word_problems/making_change", …}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from llm_distill.errors import DataError, nearest
from llm_distill.methods.skill_list import read_skill_list
from llm_distill.methods.skills import skill_id
from llm_distill.paths import file_digests, find_resource
from llm_distill.rows.columns import features
from llm_distill.stage import Columns, Context, RowsOutput, Stage

COLUMNS = ("id", "task", "skill", "count")


class LoadSkills(Stage):
    """Reads skills from a YAML file: names by task, or a list of names if rows have no task.

    Names get one spelling: "Solving Equations" becomes solving_equations. `discover_skills` writes
    such a file, without how often a skill was named: `count` is null.
    """

    stage: Literal["load_skills"]
    path: str = Field(min_length=1, description="the YAML file, such as skills.yaml")

    @field_validator("path")
    @classmethod
    def _is_a_list(cls, value: str) -> str:
        """Reports mistakes in the list before anything runs."""
        try:
            _read(value)
        except DataError as error:
            raise ValueError(str(error)) from error
        return value

    def output_columns(self, inputs: Mapping[str, Columns]) -> Columns:
        return frozenset(COLUMNS)

    def source_digests(self) -> dict[str, str]:
        return file_digests(_find(self.path))

    def run(self, context: Context) -> RowsOutput:
        rows = [
            {"id": skill_id(task, skill), "task": task, "skill": skill, "count": None}
            for task, skills in _read(self.path).items()
            for skill in skills
        ]
        return RowsOutput(rows, features(COLUMNS))


def _read(path: str) -> dict[str, list[str]]:
    file = _find(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read as UTF-8 text: {error}") from error
    return read_skill_list(text, str(file))


def _find(path: str) -> Path:
    file = find_resource(path)
    if file is None or not file.is_file():
        folder = find_resource(str(Path(path).parent))
        there = folder.glob("*.y*ml") if folder is not None and folder.is_dir() else ()
        names = [str(Path(path).parent / found.name) for found in there]
        hint = nearest(path, names).replace("allowed:", "there are:")
        raise DataError(f"no file '{path}'; {hint}")
    return file
