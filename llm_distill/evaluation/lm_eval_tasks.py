"""Tasks of lm-evaluation-harness: found by name and loaded with their data before any model."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any

from llm_distill.errors import ConfigError, DataError, nearest
from llm_distill.models.hub import is_offline
from llm_distill.paths import file_digests

log = logging.getLogger("llm_distill")

Tasks = dict[str, dict[str, Any]]
"""lm-eval's objects by name, under `tasks` and `groups`, as `TaskManager.load` gives them."""

REFUSED = {
    "UNSAFE_CODE": "runs code that the model writes",
    "MULTIMODAL": "shows the model more than text",
}


def load_tasks(names: Sequence[str], folder: Path | None) -> Tasks:
    """The tasks and groups of these names, and those inside them, with their data.

    Args:
        names: Tasks, groups or tags.
        folder: Holds the user's own task files, which take precedence over lm-eval's.

    Raises:
        ConfigError: lm-eval is not installed, or has no task of that name.
        DataError: A task's data cannot be loaded, or it needs more than text in and text out.
    """
    try:
        import lm_eval  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        raise ConfigError(
            "lm-evaluation-harness is not installed; pip install 'llm-distill[eval]'"
        ) from error
    manager = _manager(names, folder)
    found: Tasks = {"tasks": {}, "groups": {}}
    for name in names:
        try:
            with redirect_stderr(StringIO()):  # its bars would garble ours
                loaded = manager.load([name])
        except Exception as error:  # other people's files and servers
            log.info("lm-eval could not load task '%s'", name, exc_info=True)
            offline = "; HF_HUB_OFFLINE is set" if is_offline() else ""
            raise DataError(
                f"task '{name}' or its data cannot be loaded ({first_line(error)}){offline}"
            ) from error
        for kind, objects in found.items():
            objects.update(loaded.get(kind, {}))
    for name, task in found["tasks"].items():
        for flag, why in REFUSED.items():
            if getattr(task, flag, False):
                raise DataError(f"task '{name}' {why}, which this stage does not do")
    return found


def override(tasks: Tasks, num_fewshot: int | None, gen_kwargs: Mapping[str, Any]) -> None:
    """Replace the tasks' own settings by these, as `lm_eval.simple_evaluate` does.

    A task that sets num_fewshot to 0 keeps it.
    """
    for task in tasks["tasks"].values():
        if gen_kwargs and task.get_config("output_type") == "generate_until":
            task.set_config("generation_kwargs", dict(gen_kwargs), update=True)
        own = task.get_config("num_fewshot")
        if num_fewshot is not None and own != 0:
            task.set_config("num_fewshot", num_fewshot)
        elif own is None:
            task.set_config("num_fewshot", 0)


def seed(tasks: Tasks) -> None:
    """Give every random choice lm-eval's default seed."""
    import random

    import numpy as np
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED
    from lm_eval.utils import set_torch_seed

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    set_torch_seed(DEFAULT_OTHER_SEED)
    for task in tasks["tasks"].values():
        task.set_fewshot_seed(seed=DEFAULT_OTHER_SEED)


def digests(folder: Path | None) -> dict[str, str]:
    """What identifies the tasks: lm-eval's version, and digests of the user's files by path."""
    try:
        found = {"lm-eval": version("lm-eval")}
    except PackageNotFoundError:
        found = {"lm-eval": "not installed"}
    own = {} if folder is None else file_digests(folder)
    return found | {file: of for file, of in own.items() if "__pycache__" not in file.split("/")}


def files_outside(tasks: Tasks, folder: Path | None) -> Iterator[tuple[str, str]]:
    """(task, file): local data that the digests of `folder` do not cover."""
    for name, task in tasks["tasks"].items():
        settings = task.get_config("dataset_kwargs") or {}
        path = task.get_config("dataset_path")
        waiting = [path, settings.get("data_files"), settings.get("data_dir")]
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict | list):
                waiting.extend(value.values() if isinstance(value, dict) else value)
            elif isinstance(value, str) and (Path(value).exists() or glob(value)):  # noqa: PTH207
                own = folder is not None and Path(value).resolve().is_relative_to(folder.resolve())
                if not own:
                    yield name, value


def asked(task: Any, document: Any) -> str:
    """What an item asks, without worked examples: its decontamination query, text or choices.

    A task may have no text of its own (blimp), or a number there (winogrande).
    """
    if task.should_decontaminate():
        return str(task.doc_to_decontamination_query(document))
    text = task.doc_to_text(document)
    if isinstance(text, str) and text.strip():
        return text
    has_choices = task.OUTPUT_TYPE == "multiple_choice"
    return " ".join(map(str, task.doc_to_choice(document))) if has_choices else ""


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _manager(names: Sequence[str], folder: Path | None) -> Any:
    """For the user's tasks alone if no others are asked for: reading lm-eval's takes long.

    A group is looked up among all tasks, because it may name some of lm-eval's.
    """
    from lm_eval.tasks import TaskManager

    if folder is not None:
        own = TaskManager(include_path=str(folder), include_defaults=False)
        if set(names) <= {*own.all_subtasks, *own.all_tags}:
            return own
    manager = TaskManager(include_path=str(folder) if folder is not None else None)
    for name in names:
        if name not in manager.all_tasks:
            raise ConfigError(f"lm-eval has no task '{name}'; {nearest(name, manager.all_tasks)}")
    return manager
