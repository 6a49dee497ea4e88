"""What model cards and dataset cards have in common: their sources, and how they are rendered.

Their text is in the `.jinja` files beside this one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llm_distill import __version__
from llm_distill.publish.licenses import license_of, restriction
from llm_distill.publish.lineage import Lineage
from llm_distill.publish.recipe import recipe
from llm_distill.publish.results import own_tables
from llm_distill.publish.scrub import scrubbed

if TYPE_CHECKING:
    from huggingface_hub import CardData

RECIPE = "pipeline.yaml"
# Settings that the table of stages shows already, or that would fill pages.
_SAID_ELSEWHERE = frozenset({"stage", "rows", "model", "variables"})


@dataclass(frozen=True)
class Origin:
    """All that a card is written from.

    Attributes:
        lineage: The artifact's.
        evaluations: Lineages of the evaluations whose results the card shows.
        pipeline: The resolved pipeline file.
    """

    lineage: Lineage
    evaluations: tuple[Lineage, ...]
    pipeline: Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """A README.md, and warnings for the user who pushes it."""

    text: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class ModelRow:
    """A row of the table of models; notice: what its license says about training on its outputs."""

    path: str
    revision: str | None
    stages: tuple[str, ...]
    license: str
    is_base: bool
    notice: str | None

    @property
    def warning(self) -> str | None:
        if self.notice is None:
            return None
        return f"model '{self.path}' (license: {self.license}): {self.notice}"


def model_rows(origin: Origin) -> list[ModelRow]:
    """Every outside model with its license; terms on outputs do not concern the base."""
    entries = origin.pipeline.get("models") or {}
    rows = []
    for model in origin.lineage.models:
        license_id = license_of(model, entries.get(model.name) or {})
        is_base = model == origin.lineage.base
        notice = None if is_base else restriction(license_id)
        # A server may call its model by a local path; a name on the Hub is public anyway.
        path = model.path if model.is_on_hub else scrubbed(model.path, os.environ)
        rows.append(ModelRow(path, model.revision, model.stages, license_id, is_base, notice))
    return rows


def recipe_text(origin: Origin) -> str:
    """The pipeline file that makes the artifact and the card's results again."""
    lineages = (origin.lineage, *origin.evaluations)
    stages = {stage for lineage in lineages for stage in lineage.stages}
    models = {model.name for lineage in lineages for model in lineage.models}
    return _yaml(recipe(origin.pipeline, stages, models, os.environ))


def render(
    template: str, data: CardData, origin: Origin, models: list[ModelRow], **more: Any
) -> str:
    """A card: the metadata as front matter, then the template's text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    manifests = list(origin.lineage.manifests.values())
    measured = own_tables([*manifests, *(each.manifest for each in origin.evaluations)])
    own = origin.lineage.manifest
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    jinja.filters["cell"] = cell
    text = jinja.get_template(template).render(
        used=models,
        manifests=manifests,
        missing=origin.lineage.missing,
        sources=scrubbed_sources(origin.lineage),
        settings=_yaml(scrubbed({m.name: m.settings for m in manifests}, os.environ)),
        counts=counts,
        own_tables=measured,
        version=__version__,
        recipe_name=RECIPE,
        packages=", ".join(f"{name} {number}" for name, number in own.packages.items()),
        device=own.device,
        **more,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text}"


def scrubbed_sources(lineage: Lineage) -> list[dict[str, Any]]:
    """The rows from outside, without paths and secrets."""
    plain = [vars(source) for source in lineage.sources]
    cleaned: list[dict[str, Any]] = scrubbed(plain, os.environ)
    return cleaned


def one_line(settings: Mapping[str, Any]) -> str:
    """The settings by which texts were written, on one line."""
    kept = {k: v for k, v in settings.items() if k not in _SAID_ELSEWHERE and v not in (None, {})}
    flow = yaml.safe_dump(
        scrubbed(kept, os.environ),
        default_flow_style=True,
        width=float("inf"),
        sort_keys=False,
        allow_unicode=True,
    )
    return "`" + flow.strip().replace("`", "'") + "`"


def counts(dropped: Mapping[str, int]) -> str:
    """`too long: 3, no question: 1`, for a table's cell."""
    return cell(", ".join(f"{reason}: {n:,}" for reason, n in dropped.items()))


def cell(text: str) -> str:
    """A text of a stage or of data on one line, without paths and secrets, its markup escaped."""
    line = " ".join(str(scrubbed(text, os.environ)).split())
    return re.sub(r"[\\|<\[`]", r"\\\g<0>", line)


def _yaml(values: Any) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100).strip() + "\n"
