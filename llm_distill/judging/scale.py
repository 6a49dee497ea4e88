"""A scale of grades: what a template is told of it, and how a reply is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_distill.engines.base import Completion, StructuredOutput
from llm_distill.methods.grades import read_grade


@dataclass(frozen=True)
class Scale:
    """The grades from the lowest to the highest."""

    lowest: int
    highest: int

    def __str__(self) -> str:
        return f"{self.lowest} to {self.highest}"

    def variables(self, constrained: bool = False) -> Mapping[str, Any]:
        """For the template. constrained: the engine lets the judge write nothing but a grade."""
        return {"lowest": self.lowest, "highest": self.highest, "constrained": constrained}

    @property
    def structure(self) -> StructuredOutput:
        """The form of a reply that is a whole number of the scale."""
        numbers = range(self.lowest, self.highest + 1)
        return StructuredOutput(choice=tuple(map(str, numbers)))

    def read(self, reply: Completion) -> float | None:
        """The grade; None where the reply has none on this scale."""
        return read_grade(reply.text, self.lowest, self.highest, reply.finish_reason == "stop")
