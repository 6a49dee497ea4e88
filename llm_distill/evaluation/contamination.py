"""Looks for an exam's items in what its models were trained on, for every kind of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from pydantic import BaseModel, ConfigDict, Field

from llm_distill.doing import Advances, doing
from llm_distill.errors import DataError
from llm_distill.evaluation.result_rows import Contamination
from llm_distill.methods.contamination import COMPARE, Compare, SeenTexts, check_named
from llm_distill.rows.columns import Row

SHOWN_ITEMS = 10


class ContaminationSettings(BaseModel):
    """How the items are looked for in what the models were trained on or are shown."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ngram: int = Field(13, ge=1, description="words in an n-gram; GPT-3's data used 13")
    compare: Compare | dict[str, Compare] = Field(
        "auto", description=COMPARE, json_schema_extra={"later": True}
    )
    fail: bool = Field(False, description="stop the run if an item is found")


def _counted(rows: Iterable[Row], bar: Advances) -> Iterator[Row]:
    for row in rows:
        yield row
        bar.advance()


def look_for_items(
    items: Mapping[str, str],
    tasks: Mapping[str, str],
    name: str,
    seen: Mapping[str, Iterable[Row]],
    settings: ContaminationSettings,
    warn: Callable[[str], None],
) -> Contamination:
    """How many items are found in each stage's rows, and the ids of some.

    Args:
        items: Texts by id.
        tasks: By id, the task of each.
        name: The stage or task that they are of.
        seen: Rows by the stage that they are from.
        settings: How to look, and whether to stop.
        warn: Is told about every stage with an item in it.

    Raises:
        DataError: An item was found, and the settings do not allow it; or they name an unknown
            task.
    """
    texts = SeenTexts(items, settings.ngram, tasks, settings.compare)
    check_named(settings.compare, texts.compared)
    compared = {task: each.how(settings.ngram) for task, each in texts.compared.items()}
    how = dict.fromkeys(compared.values())
    found: dict[str, list[str]] = {}
    for stage, rows in seen.items():
        with doing(f"look for items of {name} in {stage}", unit="rows") as bar:
            found[stage] = sorted(texts.found_in_rows(_counted(rows, bar)))
    for stage, ids in found.items():
        if not ids:
            continue
        more = ", …" if len(ids) > SHOWN_ITEMS else ""
        message = (
            f"{len(ids)} of {len(items)} items of '{name}' are found in '{stage}' (by "
            f"{', or '.join(how)}): {', '.join(ids[:SHOWN_ITEMS])}{more}"
        )
        if settings.fail:
            raise DataError(f"{message}; put a decontaminate stage after '{stage}'")
        warn(message)
    return Contamination(
        ngram=settings.ngram,
        compared=compared,
        n_items=len(items),
        rows={stage: len(ids) for stage, ids in found.items()},
        items={stage: ids[:SHOWN_ITEMS] for stage, ids in found.items()},
    )
