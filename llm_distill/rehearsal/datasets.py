"""Datasets that stand in for those of the Hub: their columns and sizes, with questions of our own.

Sizes are those of the datasets' own pages; of another dataset a rehearsal has to be told how many
rows it has.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm_distill.errors import ConfigError
from llm_distill.rehearsal.questions import question, right_answer
from llm_distill.rows.records import split_and_slice

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
}
TEMPLATED = 3
"""Every third task's questions all have one wording."""


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


def local(settings: Mapping[str, Any], folder: Path, told: Mapping[str, int]) -> dict[str, Any]:
    """Settings of a `load_dataset` that read rows which are written for it.

    Raises:
        ConfigError: see `rows_of`; or its split cannot be understood.
    """
    path, split = str(settings["path"]), str(settings.get("split", "train"))
    names = settings.get("name")
    listed: list[str | None] = list(names) if isinstance(names, list | tuple) else [names]
    plain = split.partition("[")[0]
    place = folder / path.replace("/", "--")
    for index, name in enumerate(listed):
        count = rows_of(path, name, plain, told)
        chosen = split_and_slice(split)
        if chosen is not None:
            own, first, last = plain, 0, chosen[1].indices(count)[1]
        else:  # a file of the rows that the percentages choose
            begin, end = _percentages(split)
            own, first, last = f"{plain}{begin}to{end}", count * begin // 100, count * end // 100
        file = (place / name if name else place) / f"{own}.jsonl"
        _write(file, first, last, index, f"{path}/{name}/{plain}", settings.get("columns") or {})
    found = {**settings, "path": str(place), "split": split if chosen is not None else own}
    return {key: value for key, value in found.items() if key != "revision"}


def _percentages(split: str) -> tuple[int, int]:
    """Of a split such as test[20%:]."""
    match = re.fullmatch(r"[^\[]+\[(?:(\d+)%)?:(?:(\d+)%)?\]", split)
    if match is None:
        raise ConfigError(f"split '{split}': expected a name, train[3:103] or train[:20%]")
    begin, end = match.groups()
    return int(begin or 0), int(end or 100)


def _write(
    file: Path, start: int, stop: int, index: int, of: str, columns: Mapping[str, str]
) -> None:
    """Rows start to stop of a split; those of one number are the same whenever they are written."""
    if file.is_file():
        with file.open() as lines:
            if sum(1 for _ in lines) >= stop - start:
                return
    file.parent.mkdir(parents=True, exist_ok=True)
    asked = columns.get("question", "question")
    answered = columns.get("reference_answer", "reference_answer")
    with file.open("w", encoding="utf-8") as lines:
        for number in range(start, stop):
            draw = random.Random(f"{of}/{number}")
            text = question(draw, index % TEMPLATED == 1, index % 2 == 1)
            answer = right_answer(text) or ""
            written = f"So it is \\boxed{{{answer}}}." if answered == "solution" else answer
            lines.write(json.dumps({asked: text, answered: written}) + "\n")
