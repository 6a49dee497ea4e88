"""All that is counted of an exam's rows, as they come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_distill.evaluation.exam_results import ExamResults
from llm_distill.evaluation.free_answers import FreeAnswers
from llm_distill.evaluation.measure_results import MeasureResults
from llm_distill.evaluation.results import Results
from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.text_measures import TextMeasure


class ExamFigures:
    """Accuracies, text measures, and whether the answers are free text.

    Args:
        by: Columns to break accuracies down by.
        kind: When two answers count as the same one.
        measures: Those that the rows have.
        has_references: Without them there are no accuracies.
    """

    def __init__(
        self,
        by: Sequence[str],
        kind: AnswerKind,
        measures: Sequence[TextMeasure],
        has_references: bool,
    ) -> None:
        self._results = ExamResults(by, kind)
        self._measures, self._free = MeasureResults(measures), FreeAnswers(kind)
        self._has_measures, self._has_references = bool(measures), has_references

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of `evaluate`."""
        if self._has_references:
            for each in (self._results, self._measures, self._free):
                each.add(row)

    def measured(self, is_judged: bool) -> Results:
        """Everything but what a judge says; with a note where accuracies say nothing."""
        if not self._has_references:
            return Results()
        found = self._results.measured()
        note = self._free.note(found.exam, self._has_measures or is_judged)
        notes = () if note is None else (note,)
        return replace(found, own=self._measures.tables(), notes=notes)
