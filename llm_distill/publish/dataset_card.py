"""The card of a dataset, from its manifests."""

from __future__ import annotations

from bisect import bisect
from typing import TYPE_CHECKING, Any

from llm_distill.publish.cards import Card, Origin, model_rows, one_line, render
from llm_distill.rows.columns import COLUMNS
from llm_distill.rows.conversation_forms import Form
from llm_distill.rows.written_conversations import WrittenConversations, listed

if TYPE_CHECKING:
    from datasets import Features

# As the Hub sorts them: huggingface_hub.DatasetCardData, size_categories.
_LIMITS = (10**3, 10**4, 10**5, 10**6, 10**7, 10**8)
_SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "n>100M")


# What the columns of a form are that mean nothing, or something else, in rows of ours.
_MEANINGS: dict[str, dict[str, str]] = {
    "sharegpt": {
        "conversations": "the turns",
        "system": "the system message before them",
        "tools": "the tools that a conversation may call, as JSON text",
    },
    "alpaca": {
        "instruction": "the last question",
        "input": "empty: all of the question is in `instruction`",
        "output": "its answer",
        "history": "the questions and answers before",
        "system": "the system message before all",
    },
    "trl": {
        "prompt": "the turns before the answer",
        "completion": "the answer",
        "chosen": "the preferred answer",
        "rejected": "the answer that `chosen` is preferred to",
    },
}


def dataset_card(
    origin: Origin,
    repo_id: str,
    license_id: str | None,
    features: Features,
    n_rows: int,
    form: Form | None = None,
    written: WrittenConversations | None = None,
) -> Card:
    """The README.md of a dataset's repository, whose rows are in `data/train-*.parquet`.

    Args:
        origin: What it is written from.
        repo_id: The repository.
        license_id: What the user set.
        features: The types of the rows.
        n_rows: How many there are.
        form: What their conversations are said to be written in, if it was set.
        written: What was found in writing them so.
    """
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
        columns=[_column(name, kind, form) for name, kind in features.items()],
        form=form,
        lost=listed(written.lost, "turn") if written else "",
        left_out=listed(written.left_out, "row") if written else "",
        one_line=one_line,
    )
    warnings = [row.warning for row in rows if row.warning]
    if license_id is None:
        warnings.append("the card does not name a license; set license")
    return Card(text, tuple(warnings))


def _column(name: str, kind: Any, form: Form | None) -> dict[str, str]:
    inner = getattr(getattr(kind, "feature", None), "dtype", None)
    dtype = f"list of {inner}" if inner else getattr(kind, "dtype", type(kind).__name__)
    ours = COLUMNS.get(name, ("", ""))[1]
    meaning = _MEANINGS.get(form or "", {}).get(name, ours)
    return {"name": name, "type": str(dtype), "meaning": meaning}
