"""What MkDocs needs beyond docs/ to make a site of pages that are read on GitHub too.

Pages at the top of the repository become pages of the site, folders get an index, and links that
lead out of docs/ are turned to these pages, or into the path that they name.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
ELSEWHERE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "vulnerabilities.md": "SECURITY.md",
    "changelog.md": "CHANGELOG.md",
}
"""Pages of the site to files of the repository."""
FOLDERS = {
    "results": ("Results", "What was measured, and the commands that measure it again."),
    "decisions": ("Decisions", "What a newcomer would question, and what was tried and rejected."),
}
REST = "How to"
"""The section of pages that `nav` does not name."""
LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCE = re.compile(r"(^ *```.*?^ *```[^\S\n]*$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Complete the navigation."""
    config.nav = complete(list(config.nav or []))
    return config


def complete(nav: list[Any]) -> list[Any]:
    """The navigation with the pages of the folders, and with those that it does not name."""
    named = _named(nav)
    extra = {
        title: [f"{folder}/index.md", *_pages(folder)] for folder, (title, _) in FOLDERS.items()
    }
    extra[REST] = [page for page in _pages("") if page not in named]
    return [
        {title: [*pages, *extra.get(title, [])] for title, pages in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in nav
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not in docs/."""
    for name, source in ELSEWHERE.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text("utf-8")))
    for folder, (title, about) in FOLDERS.items():
        lines = [f"- [{_title(DOCS / page)}]({Path(page).name})" for page in _pages(folder)]
        text = "\n".join([f"# {title}\n\n{about}\n", *lines, ""])
        files.append(File.generated(config, f"{folder}/index.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to where they lead on the site."""
    return as_on_site(markdown, page.file.src_uri)


def as_on_site(markdown: str, here: str) -> str:
    """The text of a page with its links as they are on the site; here: the page's place there."""
    source = ELSEWHERE.get(here, f"docs/{here}")
    parts = FENCE.split(markdown)
    return "".join(
        part if index % 2 else LINK.sub(lambda found: _link(found, source, here), part)
        for index, part in enumerate(parts)
    )


def _link(found: re.Match[str], source: str, here: str) -> str:
    """source: the page's file in the repository. here: the page on the site."""
    text, target = found.groups()
    path, hash_sign, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return found.group(0)
    place = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    there = _page_of(place)
    if there is None:
        named = text.strip("`") == place
        return f"`{place}`" if named else f"{text} (`{place}`)"
    return (
        f"[{text}]({posixpath.relpath(there, posixpath.dirname(here) or '.')}{hash_sign}{anchor})"
    )


def _page_of(place: str) -> str | None:
    """Where a path of the repository is on the site; None if it is not there."""
    for page, source in ELSEWHERE.items():
        if place == source:
            return page
    if not place.startswith("docs/"):
        return None
    inside = place.removeprefix("docs/")
    return f"{inside}/index.md" if inside in FOLDERS else inside


def _named(nav: Any) -> set[str]:
    """All pages that the navigation names."""
    if isinstance(nav, str):
        return {nav}
    inner = nav.values() if isinstance(nav, dict) else nav
    return {page for entry in inner for page in _named(entry)}


def _pages(folder: str) -> list[str]:
    return sorted(path.relative_to(DOCS).as_posix() for path in (DOCS / folder).glob("*.md"))


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")
