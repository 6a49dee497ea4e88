"""The preview as one HTML page, in the style of a run's report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.preview.seen import Seen
from llm_distill.report.html import render_page
from llm_distill.runtime.disk import disk_explained, write_durably

FILE = "preview.html"


def write_page(pipeline: PipelineConfig, stages: Sequence[Seen], n: int, folder: Path) -> Path:
    """Write the page into `folder`; returns the file.

    Raises:
        WorkspaceError: it cannot be written.
    """
    page = render_page(
        "preview.html.jinja",
        Path(__file__).parent,
        name=pipeline.name,
        source=pipeline.source,
        profile=pipeline.profile,
        n=n,
        stages=stages,
    )
    path = folder / FILE
    with disk_explained(folder, "the preview's page: "):
        write_durably(path, page.encode("utf-8", "replace").decode("utf-8"))
    return path
