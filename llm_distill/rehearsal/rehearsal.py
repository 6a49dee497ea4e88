"""A pipeline file in which everything that costs is replaced, and every count is as written.

Kept: stages, rows and their order, counts, quantiles, batch sizes, steps, filters, templates.
Replaced: models (`models`), datasets that are not on this machine (`datasets`). Left out: devices,
precision, and stages that need the Hub itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from llm_distill.errors import ConfigError
from llm_distill.paths import find_resource
from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.rehearsal import datasets, models

NEED_THE_HUB = ("evaluate_lm_eval", "push_to_hub")
DEVICES = ("launch", "bf16", "quantization", "gradient_checkpointing", "report_to")
"""Settings of a training that are about devices."""
FILE = "rehearsal.yaml"


def write_rehearsal(
    pipeline: PipelineConfig, folder: Path, told: Mapping[str, int]
) -> tuple[Path, list[str]]:
    """The file, in `folder` with all that it reads, and what it leaves out.

    told: rows of datasets, see `datasets.rows_of`.

    Raises:
        ConfigError: a dataset's size is not known.
    """
    values = _plain(pipeline.resolved)
    stages: dict[str, Any] = values["stages"]
    left_out = [name for name, own in stages.items() if own.get("stage") in NEED_THE_HUB]
    for name in [*left_out, *pipeline.unread]:
        stages.pop(name, None)
    if not stages:
        raise ConfigError(f"{pipeline.source}: every stage needs the Hub; nothing to rehearse")
    rewards, scored = set(), set()
    for own in each_stage(stages):
        difficulty = own.get("difficulty")
        if isinstance(difficulty, dict) and "model" in difficulty:
            rewards.add(difficulty["model"])
        if own.get("stage") == "load_dataset" and find_resource(str(own["path"])) is None:
            own.update(datasets.local(own, folder / "datasets", told))
        if own.get("stage") == "select_similar":
            own["model"] = str(models.make(folder, 0))  # it embeds questions
        if own.get("stage") == "score_student_fit":
            scored.add(own["model"])
        for setting in DEVICES:
            own.pop(setting, None)
        if "gradient_accumulation_steps" in own:  # the rows of a step in one pass: it is as many
            passes = own.pop("gradient_accumulation_steps")
            own["per_device_train_batch_size"] = passes * own.get("per_device_train_batch_size", 8)
    values["models"] = models.stand_ins(values.get("models") or {}, rewards, scored, folder)
    for key in ("profiles", "report_to"):
        values.pop(key, None)
    file = folder / FILE
    file.write_text(yaml.safe_dump(values, sort_keys=False, width=100), encoding="utf-8")
    return file, left_out


def each_stage(stages: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The settings of each, those within a `repeat` too."""
    for own in stages.values():
        if "repeat" in own:
            yield from each_stage(own["repeat"]["stages"])
        else:
            yield own


def _plain(value: Any) -> Any:
    """A copy without aliases, of lists and mappings."""
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
