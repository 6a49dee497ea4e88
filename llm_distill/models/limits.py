"""What a model takes: token ids that it has a row for. Its context: `sources.context_length`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_distill.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from datasets import Dataset

TOKEN_COLUMNS = ("input_ids", "prompt_ids", "chosen_ids", "rejected_ids")


def n_rows(model: Any) -> int:
    """How many token ids the model's embedding has a row for."""
    return len(model.get_input_embeddings().weight)


def check_ids(largest: int, rows: int, name: str, where: str) -> None:
    """Refuse a token id that the model has no row for.

    Args:
        largest: the largest id of a text.
        rows: of the model's embedding.
        name: the model's.
        where: what the text is of, such as `row 'a'`.

    Raises:
        ModelError: it has none.
    """
    if largest >= rows:
        raise ModelError(
            f"model '{name}': token {largest} of {where} is not among the model's own {rows}: its "
            "tokenizer has tokens that were added without rows for them; resize the model's "
            "embeddings (resize_token_embeddings), or take the tokens out of the tokenizer"
        )


def guard_ids(model: Any, name: str, where: str) -> None:
    """As `check_ids`, from now on, for whatever is put through the model by code of others."""
    embedding, rows = model.get_input_embeddings(), n_rows(model)

    def check(module: Any, given: tuple[Any, ...]) -> None:
        check_ids(int(given[0].max()), rows, name, where)

    embedding.register_forward_pre_hook(check)


def check_dataset(dataset: Dataset, model: Any, name: str) -> None:
    """As `check_ids`, for all that is trained on.

    Raises:
        ModelError: a token has no row.
    """
    from pyarrow import compute

    rows = n_rows(model)
    for column in TOKEN_COLUMNS:
        if column in dataset.column_names:
            chunks: Iterable[Any] = dataset.data.column(column).chunks
            ids = [compute.max(chunk.flatten()).as_py() for chunk in chunks]
            check_ids(max((i for i in ids if i is not None), default=0), rows, name, "the rows")
