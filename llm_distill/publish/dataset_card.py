"""The card of a dataset, from its manifests."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Any

from llm_distill.publish.cards import Card, Origin, model_rows, one_line, render
from llm_distill.rows.columns import COLUMNS

if TYPE_CHECKING:
    from datasets import Features

# As the Hub sorts them: huggingface_hub.DatasetCardData, size_categories.
_LIMITS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "n>100M")


def dataset_card(
    origin: Origin, repo_id: str, license_id: str | None, features: Features, n_rows: int
) -> Card:
    """The README.md of a dataset's repository, whose rows are in `data/train-*.parquet`."""
    from datasets import DatasetInfo
    from datasets.info import DatasetInfosDict
    from huggingface_hub import DatasetCardData

    rows = model_rows(origin)
    title = repo_id.rpartition("/")[2]
    is_written = any(each.stage == "generate" for each in origin.lineage.manifests.values())
    data = DatasetCardData(
        license=license_id,
        pretty_name=title,
        size_categories=[_SIZES[bisect(_LIMITS, n_rows)]],
        task_categories=["text-generation"],
        annotations_creators=["machine-generated"] if is_written else None,
        tags=["llm-distill", *(["synthetic"] if is_written else [])],
        configs=[
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": "data/train-*.parquet"}],
            }
        ],
    )
    DatasetInfosDict({"default": DatasetInfo(features=features)}).to_dataset_card_data(data)
    text = render(
        "dataset_card.md.jinja",
        data,
        origin,
        rows,
        title=title,
        repo_id=repo_id,
        n_rows=n_rows,
        stage=origin.lineage.manifest.name,
        columns=[_column(name, kind) for name, kind in features.items()],
        one_line=one_line,
    )
    warnings = [row.warning for row in rows if row.warning]
    if license_id is None:
        warnings.append("the card does not name a license; set license")
    return Card(text, tuple(warnings))


def _column(name: str, kind: Any) -> dict[str, str]:
    inner = getattr(getattr(kind, "feature", None), "dtype", None)
    dtype = f"list of {inner}" if inner else getattr(kind, "dtype", type(kind).__name__)
    return {"name": name, "type": str(dtype), "meaning": COLUMNS.get(name, ("", ""))[1]}
