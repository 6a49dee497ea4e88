"""How plots look: colors that the page replaces with its own, sizes, and names that fit."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llm_distill.report.charts import Chart

WIDTH = 4.6  # inches of 72 points: about a phone's width, so that text does not shrink there
TEXT, RULE, SHADE = "#010101", "#020202", "#040404"
N_COLOURS = 8
COLOURS = tuple(f"#0303{i:02x}" for i in range(N_COLOURS))
IN_PAGE = {
    TEXT: "currentColor",
    RULE: "var(--rule)",
    SHADE: "var(--heat)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(COLOURS)},
}
MOST_SHOWN = 26  # characters of a name

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": RULE,
    "axes.labelcolor": TEXT,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "text.color": TEXT,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "font.size": 10,
    "axes.labelsize": 10,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "figure.constrained_layout.use": True,
}


@contextmanager
def own_style(name: str) -> Iterator[None]:
    """Ours alone, whatever a user's matplotlibrc says. name: gives the same ids each time."""
    from matplotlib import style

    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports on its font cache
    styles: Any = ["default", {**STYLE, "svg.hashsalt": name}]
    with style.context(styles), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # the page's font has it
        yield


def colour_of(chart: Chart, series: int) -> str:
    return COLOURS[(chart.first_colour + series) % N_COLOURS]


def name_of(text: str) -> str:
    """On one line, without characters that XML does not allow, and not too long."""
    plain = printable(text)
    return plain if len(plain) <= MOST_SHOWN else plain[: MOST_SHOWN - 1] + "…"


def printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
