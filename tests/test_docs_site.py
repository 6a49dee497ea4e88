"""The documentation as a site: it builds without a warning and loads nothing from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("material", reason="needs the extra docs")
from scripts import docs_site

ROOT = Path(__file__).parents[1]


class Loaded(HTMLParser):
    """Collects what a page loads, which is not what it links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_link = tag == "link" and given.get("rel") in ("stylesheet", "preload", "preconnect")
        if is_link or tag in ("script", "img", "iframe", "source"):
            self.found += [value for value in (given.get("src"), given.get("href")) if value]


@pytest.mark.slow
def test_the_site(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    there = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.html")}
    pages = {p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")}
    assert {str(page.with_suffix(".html")) for page in pages} < there
    home = (tmp_path / "index.html").read_text()
    assert all(f'href="{page}"' in home for page in ("tutorial.html", "decisions/index.html"))
    for path in tmp_path.rglob("*.html"):
        loaded = Loaded()
        loaded.feed(path.read_text())
        assert [url for url in loaded.found if url.startswith(("http", "//"))] == [], path
    styles = "".join(path.read_text() for path in tmp_path.rglob("*.css"))
    assert re.findall(r"url\(.?(?:https?:)?//", styles) == []


@pytest.mark.parametrize(
    ("here", "written", "read"),
    [
        ("data.md", "[a](engines.md#b)", "[a](engines.md#b)"),
        ("data.md", "[a](https://x.org/b) [c](#d)", "[a](https://x.org/b) [c](#d)"),
        ("data.md", "[S](../SECURITY.md#scope)", "[S](vulnerabilities.md#scope)"),
        ("data.md", "[`C`](../llm_distill/stage.py)", "`C` (`llm_distill/stage.py`)"),
        ("data.md", "[`deploy/x`](../deploy/x)", "`deploy/x`"),
        ("papers.md", "[d](decisions/)", "[d](decisions/index.md)"),
        ("decisions/0001-x.md", "[a](../data.md)", "[a](../data.md)"),
        (
            "index.md",
            "[r](docs/results/), [t](docs/tutorial.md)",
            "[r](results/index.md), [t](tutorial.md)",
        ),
        ("index.md", "```\n[a](docs/data.md)\n```\n", "```\n[a](docs/data.md)\n```\n"),
    ],
)
def test_links_lead_to_the_site(here: str, written: str, read: str) -> None:
    assert docs_site.as_on_site(written, here) == read


def test_a_new_page_comes_into_the_navigation() -> None:
    nav = ["index.md", {"How to": ["data.md"]}, {"Results": []}, {"Decisions": []}]
    complete = docs_site.complete(nav)
    assert complete[1]["How to"][0] == "data.md"
    assert "engines.md" in complete[1]["How to"]
    assert complete[2]["Results"][:2] == ["results/index.md", "results/across-tokenizers.md"]
