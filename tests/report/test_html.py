"""Values are written the same in tables and in plots, and cells are cut where a line may break."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from llm_distill.evaluation.result_rows import ExamRow, percent
from llm_distill.evaluation.results import Results
from llm_distill.report.exams import exam_charts, results_table
from llm_distill.report.html import parts
from llm_distill.report.plots import draw

HALVES = (0.575, 0.555, 0.005, 0.995, 0.125, 1.0)


def test_a_plots_labels_are_those_of_the_table() -> None:
    rows = tuple(ExamRow(model=f"m{n}", shots=0, accuracy=share) for n, share in enumerate(HALVES))
    measured = Results(exam=rows)
    table = results_table(measured)
    column = table.columns.index("accuracy (95 % interval)")
    written = [row[column] for row in table.rows]
    assert written == ["57.5%", "55.5%", "0.5%", "99.5%", "12.5%", "100.0%"]
    assert written == [percent(share) for share in HALVES]
    (drawing,) = exam_charts(measured)
    drawn = {text.text for text in ElementTree.fromstring(draw(drawing.chart, "p", "")).iter()}
    assert set(written) <= drawn


@pytest.mark.parametrize(
    ("cell", "cut"),
    [
        ("57.5% (50.6% to 64.1%)", ("57.5%", "(50.6% to 64.1%)")),
        ("-2.0 (-6.0 to +2.0)", ("-2.0", "(-6.0 to +2.0)")),
        ("1.2e-05 (-3e-05 to 1)", ("1.2e-05", "(-3e-05 to 1)")),
        ("accuracy (95 % interval)", ("accuracy", "(95 % interval)")),
        ("tiny (from a to b)", ("tiny (from a to b)", "")),
        ("57.5%", ("57.5%", "")),
        ("", ("", "")),
    ],
)
def test_a_cell_is_cut_before_its_interval(cell: str, cut: tuple[str, str]) -> None:
    assert parts(cell) == cut
