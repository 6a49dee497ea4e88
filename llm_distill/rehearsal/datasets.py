"""Datasets that stand in: those of the Hub by their columns and sizes, and those on this machine.

Sizes are those of the datasets' own pages; of another dataset a rehearsal has to be told how many
rows it has. Rows of this machine stay, but for questions that have an answer: what stands in for a
model cannot solve them, so each gets an end, and with it an answer, that can be computed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, cast

from llm_distill.errors import ConfigError
from llm_distill.rehearsal.columns import row, type_of
from llm_distill.rehearsal.questions import asked_for_code, right_answer
from llm_distill.rows.records import split_and_slice
from llm_distill.stage import Context, Progress, RowsOutput
from llm_distill.stages.load_dataset import LoadDataset

SMALLER_BBH = {"causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178}
MATH = {  # subject: rows of train and test
    "algebra": (1744, 1187),
    "counting_and_probability": (771, 474),
    "geometry": (870, 479),
    "intermediate_algebra": (1295, 903),
    "number_theory": (869, 540),
    "prealgebra": (1205, 871),
    "precalculus": (746, 546),
}
OTHERS = {
    ("nvidia/OpenMathInstruct-2", "train"): 13_972_791,
    ("nvidia/OpenMathInstruct-2", "train_1M"): 1_000_000,
    ("nvidia/OpenMathInstruct-2", "train_2M"): 2_000_000,
    ("nvidia/OpenMathInstruct-2", "train_5M"): 5_000_000,
    ("openai/gsm8k", "train"): 7473,
    ("openai/gsm8k", "test"): 1319,
    ("EdinburghNLP/xsum", "train"): 204_045,
    ("EdinburghNLP/xsum", "validation"): 11_332,
    ("eth-nlped/mathdial", "train"): 2262,
    ("eth-nlped/mathdial", "test"): 599,
    ("rose-e-wang/bridge", "train"): 419,
    ("rose-e-wang/bridge", "validation"): 71,
    ("rose-e-wang/bridge", "test"): 210,
}
TEMPLATED = 3
"""Every third task's questions all have one wording."""
SHAPES = {
    "alpaca": {"instruction": ("prompt", "string"), "output": ("completion", "string")},
    "sharegpt": {"conversations": ("messages", "sharegpt")},
}
"""Of a dataset of this `format`: its columns, each as ours and its type."""


def rows_of(path: str, name: str | None, split: str, told: Mapping[str, int]) -> int:
    """How many rows a split has.

    told: rows by `path`, or by `path:split`, of whoever knows better.

    Raises:
        ConfigError: nobody does.
    """
    for key in (f"{path}:{split}", path):
        if key in told:
            return told[key]
    if path == "SaylorTwift/bbh" and split == "test":
        return SMALLER_BBH.get(name or "", 250)
    if path == "EleutherAI/hendrycks_math" and name in MATH and split in ("train", "test"):
        return MATH[name][split == "test"]
    if (path, split) in OTHERS:
        return OTHERS[path, split]
    raise ConfigError(
        f"how many rows has split '{split}' of {path}? It cannot be looked up here; say it: "
        f"--rows {path}:{split}=10000"
    )


def of_the_hub(
    stage: LoadDataset, folder: Path, needed: Mapping[str, str], told: Mapping[str, int]
) -> dict[str, Any]:
    """Settings of the stage that read rows which are written for it, into `folder`.

    needed: the columns that are read of them, with their types, beside those in `columns`.

    Raises:
        ConfigError: see `rows_of`; or its split cannot be understood.
    """
    listed = stage.name if isinstance(stage.name, tuple) else (stage.name,)
    plain, chosen = stage.split.partition("[")[0], split_and_slice(stage.split)
    columns = _columns(stage, needed)
    split = stage.split
    for index, name in enumerate(listed):
        count = rows_of(stage.path, name, plain, told)
        if chosen is not None:  # the rows before the slice too: they give those in it their ids
            own, first, last = plain, 0, _last(chosen[1], count, stage.limit)
        else:  # a file of the rows that the percentages choose
            begin, end = _percentages(stage.split)
            own = split = f"{plain}{begin}to{end}"
            first, last = count * begin // 100, count * end // 100
        file = (folder / name if name else folder) / f"{own}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as lines:
            for number in range(first, last):
                of = f"{stage.path}/{name}/{plain}/{number}"
                made = row(columns, index % TEMPLATED == 1, index % 2 == 1, of)
                lines.write(json.dumps(made) + "\n")
    return {"path": str(folder), "split": split, "revision": None}


def of_this_machine(stage: LoadDataset, folder: Path) -> dict[str, Any]:
    """Settings that read the same rows, whose questions have answers that can be computed.

    Nothing is changed where the rows have no question, or no answer to it.

    Raises:
        DataError: the rows cannot be read.
    """
    output = stage.run(cast(Context, _Reading()))
    if not {"question", "reference_answer"} <= output.features.keys():
        return {}
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    with file.open("w", encoding="utf-8") as lines:
        for made in _with_answers(output):
            lines.write(json.dumps(made) + "\n")
    unset = ("name", "revision", "task", "limit")
    return {"path": str(file), "split": "train", "columns": {}, **dict.fromkeys(unset)}


class _Reading:
    """What a stage that only reads asks of its context."""

    def progress(self, description: str) -> AbstractContextManager[Progress]:
        return nullcontext(self)

    def advance(
        self, n: int = 1, tokens: int = 0, cost: float = 0.0, requests: int | None = None
    ) -> None:
        """Nothing is shown."""

    def warn(self, message: str) -> None:
        """The run itself would say so."""


def _with_answers(output: RowsOutput) -> Iterator[dict[str, Any]]:
    for given in output.rows:
        if given.get("question") and given.get("reference_answer"):
            text = asked_for_code(given["question"])
            given = {**given, "question": text, "reference_answer": right_answer(text)}
        yield given


def _columns(stage: LoadDataset, needed: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """By the dataset's own name of a column: ours, and the type."""
    types = {ours: type_of(ours) for ours in stage.columns} | dict(needed)
    shaped = SHAPES.get(stage.format, {})
    given = {"id", *(ours for ours, _ in shaped.values())}
    if stage.task is not None or isinstance(stage.name, tuple):
        given.add("task")
    given -= stage.columns.keys()
    own = {stage.columns.get(ours, ours): (ours, kind) for ours, kind in types.items()}
    found = {theirs: column for theirs, column in own.items() if column[0] not in given} | shaped
    return found or {"question": ("question", "string")}


def _last(part: slice, count: int, limit: int | None) -> int:
    """How many rows have to be there for a slice of them: all, where it counts from the end."""
    start, stop, _ = part.indices(count)
    if (part.start or 0) < 0 or (part.stop is not None and part.stop < 0):
        return count
    return stop if limit is None else min(stop, start + limit)


def _percentages(split: str) -> tuple[int, int]:
    """Of a split such as test[20%:]."""
    match = re.fullmatch(r"[^\[]+\[(?:(\d+)%)?:(?:(\d+)%)?\]", split)
    if match is None:
        raise ConfigError(f"split '{split}': expected a name, train[3:103] or train[:20%]")
    begin, end = match.groups()
    return int(begin or 0), int(end or 100)
