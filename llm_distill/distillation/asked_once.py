"""Several processes that share a training, and one of them that asks a server for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from llm_distill.training.launch import is_main, world_size

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def asked_once(
    own: Sequence[Asked], ask: Callable[[list[Asked]], Sequence[Answer]]
) -> list[Answer]:
    """Of each that this process asks, the answer; the first process asks for all at once.

    All processes have to call it.
    """
    if world_size() == 1:
        return list(ask(list(own)))
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list, gather_object

    rank = PartialState().process_index
    each = gather_object([(rank, list(own))])
    answers: dict[int, Any] = {}
    if is_main():
        said = iter(ask([asked for _, some in each for asked in some]))
        answers = {rank: [next(said) for _ in some] for rank, some in each}
    found: list[Answer] = broadcast_object_list([answers])[0][rank]
    return found
