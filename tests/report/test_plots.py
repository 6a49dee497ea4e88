"""Charts have the right figures, and their pictures fit into a page."""

from __future__ import annotations

import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from llm_distill.evaluation.result_rows import Figure
from llm_distill.report.charts import (
    CURVE_ROWS,
    Calibration,
    Curve,
    Histogram,
    Matrix,
    Scatter,
    Shares,
    spaced,
)
from llm_distill.report.plot_style import IN_PAGE
from llm_distill.report.plots import draw


def share(value: float, *ends: float) -> Figure:
    return Figure({}, value, *ends, kind="share")


SHARES = Shares(
    "skill", {"sums": {"a": share(0.5, 0.4, 0.6), "b": share(0.7)}, "days": {"b": share(0)}}
)
CROWDED = Shares("skill", {g: {s: share(0.5) for s in "abcde"} for g in "vwxyz"})
HISTOGRAM = Histogram.of("score", [("a", 0.25), ("b", 1.0), ("b", 0.25)])
CURVE = Curve("loss", {"training": ((1, 2.0), (10, 1.0))})
SCATTER = Scatter(
    "agreement",
    "gain",
    {
        "own": (share(0.8, 0.7, 0.9), Figure({}, 0.05, 0.01, 0.09, kind="points")),
        "copy": (share(1.0), Figure({}, 0.0, kind="points")),
    },
)
MATRIX = Matrix("right", "given", {"a": {"a": 3, "b": 1}, "b": {"a": 0, "b": 2}})
CALIBRATION = Calibration({"a": ((0.55, share(0.5, 0.4, 0.6)), (0.95, share(1.0)))})


def test_a_scatter_as_a_table() -> None:
    table = SCATTER.table()
    assert table.columns == ("", "agreement", "gain")
    assert table.rows == (
        ("own", "80.0% (70.0% to 90.0%)", "+5.0 (+1.0 to +9.0)"),
        ("copy", "100.0%", "+0.0"),
    )


def test_shares_as_a_table() -> None:
    table = SHARES.table()
    assert table.columns == ("skill", "a", "b")
    assert table.rows == (("sums", "50.0% (40.0% to 60.0%)", "70.0%"), ("days", "", "0.0%"))


@pytest.mark.parametrize("n_items", [1, 3, 7, 16, 20])
def test_each_score_has_its_own_bin_if_items_are_few(n_items: int) -> None:
    values = [k / n_items for k in range(n_items + 1)]
    chart = Histogram.of("score", [("", v) for v in values for _ in range(3)], 1 / n_items)
    assert chart.counts[""] == (3,) * (n_items + 1)


@pytest.mark.parametrize("n_items", [21, 40, 100, 400])
def test_bins_hold_as_many_steps_each(n_items: int) -> None:
    values = [("", k / n_items) for k in range(n_items + 1)]
    inner = Histogram.of("score", values, 1 / n_items).counts[""][1:-1]
    assert len(set(inner)) == 1
    assert len(inner) <= 21


def test_a_histogram_counts_every_finite_value_in_its_bin() -> None:
    values = [
        ("x", 0.013),
        ("x", 0.41),
        ("y", 0.4099),
        ("y", 1.7),
        ("y", -0.2),
        ("x", float("nan")),
    ]
    chart = Histogram.of("margin", values)
    for name, counts in chart.counts.items():
        for index, count in enumerate(counts):
            low, high = chart.edges[index : index + 2]
            assert count == sum(n == name and low <= v < high for n, v in values)
    assert sum(map(sum, chart.counts.values())) == 5


def test_a_histogram_of_one_value_or_none() -> None:
    assert sum(Histogram.of("score", [("", 0.5)]).counts[""]) == 1
    assert Histogram.of("score", []).counts == {}


def test_a_long_curve_is_thinned_in_the_table_and_keeps_its_end() -> None:
    points = tuple((float(step), 1.0) for step in range(1, 1000))
    rows = Curve("loss", {"training": points}).table().rows
    assert len(rows) == CURVE_ROWS
    assert (rows[0][0], rows[-1][0]) == ("1", "999")
    assert spaced(3, 5) == [0, 1, 2]


@pytest.mark.parametrize("chart", [SHARES, CROWDED, HISTOGRAM, CURVE, SCATTER, MATRIX, CALIBRATION])
def test_a_picture_is_the_same_twice_and_takes_its_looks_from_the_page(chart: object) -> None:
    svg = draw(chart, "plot-1", "a < b")  # type: ignore[arg-type]
    assert svg == draw(chart, "plot-1", "a < b")  # type: ignore[arg-type]
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label") == "a < b"
    assert (root.get("width"), root.get("viewBox") is None) == (None, False)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert not tags & {"style", "script", "metadata", "image"}
    for element in root.iter():
        assert "style" not in element.attrib
        for name in ("fill", "stroke"):
            assert element.get(name, "none") in {"none", *IN_PAGE.values()}
    assert "#0" not in svg


def test_two_pictures_in_a_page_share_no_id() -> None:
    pages = [draw(HISTOGRAM, name, "") for name in ("plot-1", "plot-2")]
    ids = Counter(re.findall(r' id="([^"]+)"', "".join(pages)))
    assert max(ids.values()) == 1
    for page in pages:
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page))
        assert used
        assert used <= set(re.findall(r' id="([^"]+)"', page))


@pytest.mark.parametrize("name", ["$x$ <b>&", "_hidden", "\x00\n\x1b[1m", "题目", "a\u202eb"])
def test_any_name_can_be_drawn_as_it_is(name: str) -> None:
    svg = draw(
        Shares("skill", {name: {name: share(0.5)}}),
        "plot-1",
        name.replace("\x00", " ").replace("\x1b", " "),
    )
    text = "".join(ElementTree.fromstring(svg).itertext())
    assert "".join(c if c.isprintable() else " " for c in name).strip() in text
