"""The preview as one HTML page, in the style of a run's report, with no script."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llm_distill import __version__
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.preview.seen import Seen
from llm_distill.report.page import policy, style_sheet, templates
from llm_distill.runtime.disk import disk_explained, write_durably

FILE = "preview.html"
MOST_CHARACTERS = 20_000
"""Of a text."""


def write_page(pipeline: PipelineConfig, stages: Sequence[Seen], n: int, folder: Path) -> Path:
    """Write the page into `folder`; returns the file.

    Raises:
        WorkspaceError: it cannot be written.
    """
    from markupsafe import Markup

    style = style_sheet()
    page = (
        templates(Path(__file__).parent)
        .get_template("page.html.jinja")
        .render(
            name=pipeline.name,
            source=pipeline.source,
            profile=pipeline.profile,
            n=n,
            stages=stages,
            version=__version__,
            most_characters=MOST_CHARACTERS,
            style=Markup(style),
            policy=policy(style),
        )
    )
    path = folder / FILE
    with disk_explained(folder, "the preview's page: "):
        write_durably(path, page.lstrip().encode("utf-8", "replace").decode("utf-8"))
    return path
