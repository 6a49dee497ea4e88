"""A page as HTML: one file that loads nothing else, whatever it is about.

The templates escape texts of models and data. The page's Content-Security-Policy allows only its
own style and script, by their digests, so that a browser would run nothing else even if a text were
not escaped. `macros.html.jinja` has what pages share: tables, plots, texts.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill import __version__
from llm_distill.errors import counted
from llm_distill.evaluation.result_rows import percent
from llm_distill.report import plots
from llm_distill.report.cards import MOST_CHARACTERS
from llm_distill.report.charts import Drawing

if TYPE_CHECKING:
    from markupsafe import Markup

HERE = Path(__file__).parent
WITH_INTERVAL = re.compile(r"(\S+) (\((?:[^()\s]+ to [^()\s]+|95 % interval)\))")


def render_page(template: str, folder: Path = HERE, **values: Any) -> str:
    """A template as a whole page.

    Args:
        template: Its name; it extends `shell.html.jinja`.
        folder: Where it is.
        values: What it shows. It also knows `version`, `install` (how to get plots, or None) and
            the filters `count`, `duration`, `percent` and `parts` (of a table's cell).
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader([folder, HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(count=counted, duration=duration, parts=parts, percent=percent)
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    draws = plots.available()
    numbers = count(1)

    def draw(given: Drawing) -> Markup | None:
        name = f"plot-{next(numbers)}"
        return Markup(plots.draw(given.chart, name, given.title)) if draws else None

    environment.globals.update(
        draw=draw,
        install=None if draws else plots.INSTALL,
        most_characters=MOST_CHARACTERS,
        version=__version__,
        style=Markup(style),
        script=Markup(script),
        policy="; ".join(
            [
                "default-src 'none'",
                f"style-src '{_digest(style)}'",
                f"script-src '{_digest(script)}'",
                "base-uri 'none'",
                "form-action 'none'",
            ]
        ),
    )
    page = environment.get_template(template).render(**values)
    return page.lstrip()  # the imports at a template's top leave empty lines


def parts(cell: str) -> tuple[str, str]:
    """A cell's value and its interval, which a narrow screen shows below each other.

    `57.5% (50.6% to 64.1%)` is `57.5%` and `(50.6% to 64.1%)`; of others the second is empty. The
    head of such a column is cut likewise.
    """
    found = WITH_INTERVAL.fullmatch(cell)
    return (found[1], found[2]) if found else (cell, "")


def duration(seconds: float) -> str:
    """`0.05 s`, `3.6 s`, `1 min 28 s`, `2 h 03 min`."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return (
        f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )


def _digest(text: str) -> str:
    return "sha256-" + b64encode(hashlib.sha256(text.encode()).digest()).decode()
