"""Rows to the examples of a training: tokens with their labels, and what is left out.

row:     {"prompt": "2 + 2 =", "completion": "4"}
example: {"input_ids": [2, +, 2, =, 4, <end>], "labels": [-100, -100, -100, -100, 4, <end>]}
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from llm_distill.doing import doing
from llm_distill.errors import DataError
from llm_distill.hints import THIS_STAGE, hint
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import is_conversation
from llm_distill.rows.unusable import AlteredRowError, UnusableRowError, remedies
from llm_distill.training.encoder import EncodedTurn, PairEncoder, as_read, tools_of

if TYPE_CHECKING:
    from datasets import Dataset

Labelled = list[tuple[str, bool, int]]
"""An example to be looked at: its text, cut where the loss begins and ends; whether the piece is in
the loss, and its number of tokens."""

Encode = Callable[[Row], Mapping[str, Any] | Sequence[Mapping[str, Any]]]
"""What is made of a row: an example, or several."""

SAMPLE_WEIGHT = "sample_weight"
"""The column of examples that says how often each is drawn, against the others."""

NO_LOSS = -100
"""The label that torch's cross entropy leaves out."""


def sft_example(head: Sequence[int], tail: Sequence[int]) -> dict[str, list[int]]:
    """Token ids, and labels with no loss over the prompt."""
    return {"input_ids": [*head, *tail], "labels": [NO_LOSS] * len(head) + [*tail]}


def labelled(tokenizer: Any, ids: Sequence[int], in_loss: Sequence[bool]) -> Labelled:
    """An example as text. in_loss: whether each token is."""
    pairs = zip(ids, in_loss, strict=True)
    found: Labelled = []
    for is_in, group in groupby(pairs, key=lambda pair: pair[1]):
        piece = [token for token, _ in group]
        found.append((tokenizer.decode(piece), is_in, len(piece)))
    return found


def labelled_sft(encoder: PairEncoder, example: Mapping[str, Sequence[int]]) -> Labelled:
    """An example of `sft_example` as text."""
    in_loss = [label != NO_LOSS for label in example["labels"]]
    return labelled(encoder.tokenizer, example["input_ids"], in_loss)


def checked_weight(value: object) -> float:
    """How much a row counts in the loss, or how often it is drawn.

    Raises:
        UnusableRowError: it is not a finite number above 0; with 0 the row does not count.
    """
    if value is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UnusableRowError("no weight")
    if not math.isfinite(value):
        raise UnusableRowError("weight is not finite")
    if value < 0:
        raise UnusableRowError("weight is below 0")
    if value == 0:
        raise UnusableRowError("weight is 0")
    return float(value)


def with_sample_weight(encode: Encode, column: str) -> Encode:
    """`encode` with the row's weight in each example.

    Raises (when it is called):
        UnusableRowError: as `checked_weight`; with 0 the row is never drawn.
    """

    def weighted(row: Row) -> list[Mapping[str, Any]]:
        examples = encode(row)  # first: it may number the rows that it has seen
        weight = checked_weight(row[column])
        several = [examples] if isinstance(examples, Mapping) else examples
        return [{**example, SAMPLE_WEIGHT: weight} for example in several]

    return weighted


def sft_examples(turns: Sequence[EncodedTurn]) -> list[dict[str, list[int]]]:
    """A conversation's token ids and labels, with a loss over what the assistant says.

    A model is given what it wrote before. Where a template then renders it in another way (without
    its thoughts, as a rule), the conversation is cut there: each example is what the model is given
    at that turn.
    """
    examples: list[dict[str, list[int]]] = []
    ids: list[int] = []
    labels: list[int] = []
    for head, tail, _ in turns:
        if head[: len(ids)] != ids:
            examples.append({"input_ids": ids, "labels": labels})
            ids, labels = [], []
        labels = [*labels, *([NO_LOSS] * (len(head) - len(ids))), *tail]
        ids = [*head, *tail]
    return [*examples, {"input_ids": ids, "labels": labels}]


def dpo_example(encoder: PairEncoder, row: Row) -> dict[str, list[int]]:
    """Token ids of the prompt and of both answers to it.

    Raises:
        UnusableRowError: a side cannot be encoded, or both answers are the same.
    """
    if is_conversation(row["prompt"]):
        prompt, chosen = _answered(encoder, row, "chosen")
        other, rejected = _answered(encoder, row, "rejected")
        if prompt != other:
            raise UnusableRowError("the chat template opens the two answers differently")
    else:
        prompt, chosen = encoder.encode(row["prompt"], row["chosen"])
        _, rejected = encoder.encode(row["prompt"], row["rejected"])
    if chosen == rejected:
        raise UnusableRowError("chosen and rejected are the same")
    return {"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected}


def kto_example(encoder: PairEncoder, row: Row, label_column: str) -> dict[str, Any]:
    """Token ids of a prompt and an answer, and whether that is wanted.

    Raises:
        UnusableRowError: a side cannot be encoded, or the label is neither true nor false.
    """
    label = row[label_column]
    if not isinstance(label, bool):
        raise UnusableRowError("no label" if label is None else "a label that is not true or false")
    if is_conversation(row["prompt"]):
        prompt, answer = _answered(encoder, row, "completion")
    else:
        prompt, answer = encoder.encode(row["prompt"], row["completion"])
    return {"prompt_ids": prompt, "completion_ids": answer, "label": float(label)}


def kto_examples(encoder: PairEncoder, row: Row) -> list[dict[str, Any]]:
    """A pair as two examples of `kto_example`: the chosen answer is wanted, the other is not.

    Raises:
        UnusableRowError: as `dpo_example`.
    """
    pair = dpo_example(encoder, row)
    sides = (("chosen_ids", 1.0), ("rejected_ids", 0.0))
    return [
        {"prompt_ids": pair["prompt_ids"], "completion_ids": pair[side], "label": label}
        for side, label in sides
    ]


def _answered(encoder: PairEncoder, row: Row, side: str) -> tuple[list[int], list[int]]:
    if not row[side] or len(row[side]) > 1:
        raise UnusableRowError(f"{side} is not one turn")
    messages = [*as_read(row["prompt"]), *as_read(row[side])]
    head, tail, _ = replace(encoder, answers="last").conversation(messages, tools_of(row))[0]
    return head, tail


MOST_ALTERED = 0.1
"""The share of rows that a template or tokenizer may change before a training is refused."""


def token_dataset(
    rows: Iterable[Row],
    encode: Encode,
    drop: Callable[[str], None],
    name: str,
) -> Dataset:
    """What `encode` makes of each row; rows that it refuses are counted.

    encode: gives integers, a number, or an array, which keeps its type, by column; or several such
        examples.

    Raises:
        DataError: no row is left, which says how many were refused for what; or too many would not
            be trained as they are.
    """
    import numpy as np
    from datasets import Dataset

    columns: dict[str, list[Any]] = {}
    refused: Counter[str] = Counter()
    altered: Counter[str] = Counter()
    first, total = "", 0
    with doing(f"read {name} as tokens", unit="rows") as bar:
        for row in rows:
            total += 1
            bar.advance()
            try:
                examples = encode(row)
            except UnusableRowError as error:
                refused[str(error)] += 1
                if isinstance(error, AlteredRowError):
                    altered[str(error)] += 1
                    first = first or str(row.get("id"))
                drop(str(error))
                continue
            for example in [examples] if isinstance(examples, Mapping) else examples:
                for column, value in example.items():
                    # As arrays: a list of Python's integers takes up to nine times the memory.
                    is_kept = isinstance(value, (float, np.ndarray))
                    kept = value if is_kept else np.asarray(value, dtype=np.int32)
                    columns.setdefault(column, []).append(kept)
    if altered.total() > MOST_ALTERED * total:
        raise DataError(
            f"{altered.total()} of {total} rows of '{name}', the first of them '{first}', would "
            f"not be trained as they are: {_listed(altered)}. Take a model whose chat template "
            "keeps them, or change the rows. To see one: "
            f"{hint('preview', '--tokens', THIS_STAGE, of_file=True)}"
        )
    if not columns:
        why = _listed(refused) or "it is empty"
        raise DataError(f"no row of '{name}' can be trained on: {why}{remedies(refused)}")
    return Dataset.from_dict(columns)


def shuffled_column(dataset: Dataset, column: str, seed: int) -> Dataset:
    """The dataset with one column's values in another order, by the seed."""
    import numpy as np

    order = np.random.default_rng(seed).permutation(len(dataset))
    values = np.asarray(dataset[column])[order]
    return dataset.remove_columns(column).add_column(column, values)


def _listed(reasons: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
