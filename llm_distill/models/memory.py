"""Memory that does not suffice, said as one message that tells what to change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from llm_distill.errors import ModelError


def fits_memory(name: str, device: str) -> AbstractContextManager[None]:
    """Around the loading of a model; `name` begins the message, such as `model 'teacher'`."""
    return out_of_memory_as(
        f"{name} does not fit into the memory of {device}; take a smaller one, or dtype: bfloat16"
    )


@contextmanager
def out_of_memory_as(message: str) -> Iterator[None]:
    """Says what to do where memory does not suffice.

    Raises:
        ModelError: with the message, in place of torch's and Python's out-of-memory errors.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(message) from error


def is_out_of_memory(error: Exception) -> bool:
    """Whether it is; on the CPU torch raises a RuntimeError that only its words tell apart."""
    import torch

    words = ("can't allocate memory", "not enough memory")
    kinds = (MemoryError, torch.OutOfMemoryError)
    return isinstance(error, kinds) or any(word in str(error) for word in words)
