"""Read a list of skills that a person wrote or edited.

in:  word_problems: [addition, Making change]    (skills.yaml)
out: {"id": "word_problems/addition", "task": "word_problems", "skill": "addition", "count": null},
     {"id": "word_problems/making_change", …}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator

from llm_distill.errors import DataError
from llm_distill.methods.skill_list import read_skill_list
from llm_distill.methods.skills import skill_id
from llm_distill.rows.columns import features
from llm_distill.rows.user_lists import list_digests, list_text
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
        return list_digests(self.path)

    def run(self, context: Context) -> RowsOutput:
        rows = [
            {"id": skill_id(task, skill), "task": task, "skill": skill, "count": None}
            for task, skills in _read(self.path).items()
            for skill in skills
        ]
        return RowsOutput(rows, features(COLUMNS))


def _read(path: str) -> dict[str, list[str]]:
    return read_skill_list(*list_text(path))
