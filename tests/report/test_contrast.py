"""The page's colors can be told from what is behind them, in light, in dark and on paper."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llm_distill.report import html

TEXT, MARK = 4.5, 3.0  # WCAG 2.2, 1.4.3 and 1.4.11
TEXTS = ("text", "soft", "accent", "good", "bad")


def _themes() -> dict[str, dict[str, str]]:
    """The colors of each theme; those that one does not set are the light one's."""
    style = (Path(html.__file__).parent / "page.css").read_text(encoding="utf-8")
    sets = [
        dict(re.findall(r"--([\w-]+): (#\w+)", s))
        for s in re.findall(r":root {(.*?)}", style, re.S)
    ]
    return {
        name: {**sets[0], **own} for name, own in zip(("light", "dark", "paper"), sets, strict=True)
    }


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * d for d in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(c * w for c, w in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def _contrast(a: str, b: str) -> float:
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark", "paper"])
def test_text_and_plots_can_be_told_from_what_is_behind_them(theme: str) -> None:
    colours = _themes()[theme]
    series = [name for name in colours if name.startswith("series-")]
    assert len(series) == 8
    for behind in ("ground", "panel"):
        for name in TEXTS:
            assert _contrast(colours[name], colours[behind]) >= TEXT, (theme, name, behind)
    assert _contrast(colours["text"], colours["heat"]) >= TEXT  # counts in a matrix
    for name in ("edge", "heat", *series):
        assert _contrast(colours[name], colours["ground"]) >= MARK, (theme, name)
