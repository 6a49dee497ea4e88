"""What classifiers confuse and how well they are calibrated: pictures in the report."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pytest

from llm_distill.evaluation.label_figures import label_tables
from llm_distill.evaluation.results import Figure, Results, shown
from llm_distill.publish.results import own_tables as tables_of_cards
from llm_distill.report.charts import Calibration, Matrix
from llm_distill.report.differences import figures as compared
from llm_distill.report.figures import courses, own_tables
from llm_distill.report.label_drawings import label_drawings
from llm_distill.report.page import render
from llm_distill.report.plots import draw
from llm_distill.runtime.scalars import metric_scalars
from tests.report.runs import Made

RIGHT = ["a", "a", "a", "b", "b", "c"]
SAID = ["a", "a", "b", "b", None, "x"]
SURE = [(0.95, True), (0.91, False), (0.55, True), (0.58, True)]
ROWS = [{"id": "r", "answer": "a"}]
SVG = "{http://www.w3.org/2000/svg}"


def metrics(
    right: list[str], said: list[str | None], sure: list[tuple[float, bool]] = SURE
) -> dict[str, Any]:
    return shown(*label_tables(right, {"teacher": said}, {"teacher": sure}))


def drawn(chart: Any) -> tuple[list[ElementTree.Element], list[str]]:
    """The shaded cells of a picture and its texts."""
    root = ElementTree.fromstring(draw(chart, "plot-1", "label"))
    cells = [path for path in root.iter(f"{SVG}path") if path.get("fill") == "var(--heat)"]
    return cells, [text.text or "" for text in root.iter(f"{SVG}text")]


def opacity(cell: ElementTree.Element) -> float:
    return float(cell.get("fill-opacity", "1"))


def test_confusions_are_a_matrix_with_a_picture_and_its_table_once(
    make_run: Callable[..., Made],
) -> None:
    made = make_run("")
    made.stage("exam", "classification_report", ROWS, metrics=metrics(RIGHT, SAID))
    matrix, _ = label_drawings(made.view)
    assert matrix.title == "exam: teacher, confusions"
    assert "Rows: right label. Columns: given." in matrix.note
    assert isinstance(matrix.chart, Matrix)
    assert matrix.chart.columns == ("a", "b", "c", "x", "(none)")
    assert matrix.chart.table().columns == ("right label ↓ given →", *matrix.chart.columns)
    assert matrix.chart.table().rows == (
        ("a", "2", "1", "0", "0", "0"),
        ("b", "0", "1", "0", "0", "1"),
        ("c", "0", "0", "0", "1", "0"),
    )
    page = render(made.view)
    assert page.count("<figcaption>exam: teacher, confusions</figcaption>") == 1
    assert page.count('<table aria-label="exam: teacher, confusions">') == 1
    assert 'aria-label="exam: teacher, confusions"' in page.partition("<svg")[2]
    titles = [title for of in (True, False) for title, _ in own_tables(made.view, of_models=of)]
    assert titles == [
        "exam: accuracy of the most frequent answer",
        "exam: macro-F1",
        "exam: expected calibration error",
        "exam: teacher, by label",
    ]


def test_a_cell_is_shaded_by_its_share_of_the_row_and_says_its_count() -> None:
    chart = Matrix("right", "given", {"a": {"a": 30, "b": 10}, "b": {"a": 0, "b": 2}})
    cells, texts = drawn(chart)
    assert [opacity(cell) for cell in cells] == [
        pytest.approx(0.1 + 0.9 * 0.75),
        pytest.approx(0.1 + 0.9 * 0.25),
        1,
    ]
    assert sorted(texts) == sorted(["right", "given", "a", "b", "a", "b", "30", "10", "2"])


def test_rows_without_counts_and_one_label_are_drawn() -> None:
    empty = {"a": {"a": 1, "b": 0}, "never": {"a": 0, "b": 0}, "nothing": {}}
    cells, texts = drawn(Matrix("right", "given", empty))
    assert len(cells) == 1
    assert {"never", "nothing"} <= {*texts}
    for counts in ({"only": {"only": 4}}, {"only": {"only": 0}}):
        cells, texts = drawn(Matrix("right", "given", counts))
        assert len(cells) == (counts["only"]["only"] > 0)
        assert texts.count("only") == 2


@pytest.mark.parametrize("n", [3, 14, 15, 50])
def test_labels_can_be_read_however_many_there_are(n: int) -> None:
    names = [f"questions on the {i}th of the topics that there are" for i in range(n)]
    chart = Matrix("right", "given", {a: {b: 5 * (a == b) for b in names} for a in names})
    assert chart.is_wide == (n > 14)
    root = ElementTree.fromstring(draw(chart, "plot-1", "label"))
    width = float(root.get("viewBox", "").split()[2])
    shown_names = [t for t in root.iter(f"{SVG}text") if "…" in (t.text or "")]
    assert len(shown_names) == 2 * n
    for text in shown_names:
        assert float(text.get("font-size", "0")) >= 8
        assert len(text.text or "") <= 18
    assert width == pytest.approx(331 * (2 if chart.is_wide else 1), rel=0.01)


def test_names_that_begin_alike_are_told_apart() -> None:
    names = ["delivery: the parcel is late", "delivery: the parcel is lost"]
    _, texts = drawn(Matrix("right", "given", {a: dict.fromkeys(names, 1) for a in names}))
    assert {"delivery:…is late", "delivery:…is lost"} <= {*texts}


def test_counts_are_left_out_where_there_is_no_room() -> None:
    names = [f"label {i}" for i in range(14)]
    few, many = (
        Matrix("right", "given", {a: dict.fromkeys(names, count) for a in names})
        for count in (3, 1_234_567)
    )
    assert "3" in drawn(few)[1]
    assert "1,234,567" not in drawn(many)[1]
    assert len(drawn(many)[0]) == 14 * 14


def test_calibration_has_its_diagonal_its_intervals_and_one_unit() -> None:
    right = Figure({}, 0.5, 0.3, 0.7, 20, "share"), Figure({}, 0.9, 0.8, 0.95, 50, "share")
    chart = Calibration({"teacher": ((0.55, right[0]), (0.93, right[1]))})
    root = ElementTree.fromstring(draw(chart, "plot-1", "label"))
    paths = [*root.iter(f"{SVG}path")]
    (diagonal,) = [path for path in paths if path.get("stroke-dasharray")]
    x0, y0, x1, y1 = (float(part) for part in (diagonal.get("d") or "").split() if part not in "ML")
    assert x1 - x0 == pytest.approx(y0 - y1)  # both axes have one scale
    ours = [path.get("d") or "" for path in paths if path.get("stroke") == "var(--series-1)"]
    ends = [[float(part) for part in d.split() if part not in "ML"] for d in ours if "C" not in d]
    upright = [of for of in ends if len(of) == 4 and of[0] == of[2]]
    assert [(y0 - bottom) / (y0 - y1) for _, bottom, _, _ in upright] == pytest.approx([0.3, 0.8])
    assert [(y0 - top) / (y0 - y1) for *_, top in upright] == pytest.approx([0.7, 0.95])
    texts = [text.text for text in root.iter(f"{SVG}text")]
    ticks = ["0%", "20%", "40%", "60%", "80%", "100%"]
    assert texts == [*ticks, "mean confidence", *ticks, "right"]


def test_calibration_is_drawn_by_mean_confidence(make_run: Callable[..., Made]) -> None:
    made = make_run("")
    made.stage("exam", "classification_report", ROWS, metrics=metrics(RIGHT, SAID))
    _, drawing = label_drawings(made.view)
    assert drawing.title == "exam: calibration of teacher"
    assert "dashed line" in drawing.note
    assert isinstance(drawing.chart, Calibration)
    (points,) = drawing.chart.points.values()
    assert [(sure, of.value, of.n) for sure, of in points] == [
        (pytest.approx(0.565), 1.0, 2),
        (pytest.approx(0.93), 0.5, 2),
    ]
    first, _ = drawing.chart.table().rows
    assert first == ("teacher", "56.5%", "100.0% (34.2% to 100.0%)", "2")
    assert courses(made.view) == []


def test_a_matrix_of_very_many_cells_is_only_drawn(make_run: Callable[..., Made]) -> None:
    names = [f"label {i}" for i in range(50)]
    large, small = metrics(names * 2, [*names, *names]), metrics(RIGHT, SAID)
    made = make_run("")
    made.stage("exam", "classification_report", ROWS, metrics=large)
    page = render(made.view)
    assert '<figure class="whole">' in page
    assert '<div class="wide"><svg' in page
    assert not any("confusions" in name for name in metric_scalars(large))
    assert not any("confusions" in each.of for each in compared(made.view))
    manifests = [stage.manifest for stage in made.view.stages if stage.manifest]
    assert not any("confusions" in table.title for _, table in tables_of_cards(manifests))
    assert any("confusions" in name for name in metric_scalars(small))
    assert any("confusions" in table.title for table in Results.from_metrics(large).own)


def test_labels_that_are_in_no_list_share_a_column() -> None:
    right = [f"label {i}" for i in range(20)] * 3
    said = [f"a label of its own {i}" for i in range(len(right))]
    own = Results.from_metrics(metrics(right, [*said])).own
    (table,) = [table for table in own if table.title == "teacher, confusions"]
    given = {figure.labels["given"] for figure in table.figures}
    assert given == {*right, "(others)"}
    assert sum(figure.value for figure in table.figures) == len(right)


def test_very_many_labels_have_no_matrix() -> None:
    right = [f"label {i}" for i in range(61)]
    own = Results.from_metrics(metrics(right, [*right])).own
    assert not any("confusions" in table.title for table in own)
