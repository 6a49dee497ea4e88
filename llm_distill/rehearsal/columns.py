"""Which columns a dataset has to have, read off the stages, and values that fit their types."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

from llm_distill.pipeline.schema import PipelineConfig
from llm_distill.prompts import load_template
from llm_distill.rehearsal.questions import WORDS, question, right_answer
from llm_distill.rows.columns import COLUMNS
from llm_distill.stage import Columns, Stage, rows_of
from llm_distill.stages.judge import Judge
from llm_distill.stages.mismatch_pairs import MismatchPairs

DECLARED = "declares:"
"""Begins the type of a text that is JSON; the keys follow."""
GRADE = "grade:"
"""Begins the type of a whole number; the lowest and the highest follow."""


def needed_columns(pipeline: PipelineConfig) -> dict[str, dict[str, str]]:
    """Of each stage: the columns that those after it read and that none between has added.

    Each with its type, as in `rows.columns.COLUMNS`.
    """
    needed: dict[str, dict[str, str]] = {name: {} for name in pipeline.stages}
    for name, stage in reversed(pipeline.stages.items()):  # what reads a stage comes after it
        for target, columns in stage.required_columns().items():
            for column in columns:
                needed[target][column] = _type(column, stage)
        rows = getattr(stage, "rows", None) or ()
        nothing: dict[str, Columns] = dict.fromkeys(rows_of(stage), frozenset())
        for above in {rows} if isinstance(rows, str) else set(rows):  # a mixture has several
            if above not in needed:
                continue
            for template, offered in stage.template_variables(nothing).items():
                for column in load_template(template).variables - (offered or frozenset()):
                    needed[above].setdefault(column, _type(column, stage))
            given = stage.output_columns(nothing) if stage.output == "rows" else None
            if given is not None:
                passed_on = {k: v for k, v in needed[name].items() if k not in given}
                needed[above] |= passed_on
    return needed


def _type(column: str, stage: Stage) -> str:
    if column == getattr(stage, "messages_column", None):
        return "messages"
    if isinstance(stage, MismatchPairs) and column == stage.text_column:
        return DECLARED + ",".join(stage.fields)
    if isinstance(stage, Judge) and column in stage.labels():
        low, high = stage.scale
        return "winner" if stage.mode == "pairwise" else f"{GRADE}{low},{high}"
    return type_of(column)


def type_of(column: str) -> str:
    """Of a column that no stage says more of."""
    return COLUMNS.get(column, ("string", ""))[0]


def value(column: str, kind: str, text: str, draw: random.Random) -> Any:
    """One of a column of this type, for a row whose question is `text`."""
    answer = right_answer(text) or ""
    solved = f"So it is \\boxed{{{answer}}}. <ans>{answer}</ans>"
    words = " ".join(draw.choices(WORDS, k=3))
    by_column = {
        "question": text,
        "prompt": text,
        "reference_answer": answer,
        "answer": answer,
        # As long as what stands in for a model writes, which some stages compare it with.
        "rationale": f"{' '.join(WORDS[:12]).capitalize()}. {solved}",
        "completion": f"{words.capitalize()}. {solved}",
        "chosen": f"{words.capitalize()}. {solved}",
        "rejected": f"{words.capitalize()}. So it is 1. <ans>1</ans>",
        "tools": "[]",
        # Of a dialogue so far, with both names that data have for who speaks.
        "turns": [{"speaker": "student", "user": "student", "text": solved, "act": None}],
    }
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": solved}]
    by_type: Mapping[str, Any] = {
        "messages": turns,
        "sharegpt": [{"from": "human", "value": text}, {"from": "gpt", "value": solved}],
        "bool": draw.random() < 0.5,
        "int64": draw.randrange(100),
        "float64": draw.random(),
        "list[string]": words.split(),
        "string": words,
        "winner": draw.choice(("a", "b", "tie")),
    }
    if kind.startswith(GRADE):
        return draw.randint(*map(int, kind.removeprefix(GRADE).split(",")))
    if kind == "string":
        return by_column.get(column, words)
    if kind.startswith(DECLARED):
        return json.dumps(dict.fromkeys(kind.removeprefix(DECLARED).split(","), answer))
    if column == "choices":
        return [answer, *words.split()]  # the answer is one of them
    if kind not in by_type:
        return None
    return by_type[kind]


def row(columns: Mapping[str, tuple[str, str]], templated: bool, options: bool, of: str) -> Any:
    """A record of a dataset. columns: its own name of each, to ours and the type.

    of: what it is drawn by; another one with the same has the same question. It is the row's id
    where the dataset has a column for that.
    """
    draw = random.Random(of)
    text = question(draw, templated, options)
    found = {
        theirs: of if ours == "id" else value(ours, kind, text, draw)
        for theirs, (ours, kind) in columns.items()
    }
    if "solution" in found and columns["solution"][0] == "reference_answer":
        found["solution"] = f"So it is \\boxed{{{found['solution']}}}."
    return found
