"""Texts to vectors, by a sentence-transformers model: safetensors only, no code of a repository."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_distill.errors import ConfigError, ModelError
from llm_distill.models.hub import cached_commit
from llm_distill.paths import find_resource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INSTALL = "pip install 'llm-distill[similar]'"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
NOT_NEEDED = [*(f"*{ending}" for ending in PICKLES), "*.h5", "*.msgpack", "*.onnx", "*.xml"]


def embed(model: str, revision: str | None, texts: Sequence[str]) -> NDArray[np.float32]:
    """One vector a text, [texts, dimensions].

    model: a directory as sentence-transformers saves it, a plain transformers one (the mean over
        its last hidden states is taken then), or a name on the Hub.

    Raises:
        ConfigError: sentence-transformers is not installed.
        ModelError: the model is not there, cannot be loaded, or has weights only as pickles.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ModuleNotFoundError as error:
        if error.name != "sentence_transformers":
            raise
        raise ConfigError(f"sentence-transformers is not installed; {INSTALL}") from error
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # one a file would tear ours
    directory = _directory(model, revision)
    _refuse_pickles(directory)
    try:
        loaded: Any = SentenceTransformer(
            str(directory),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True},
        )
        vectors: NDArray[np.float32] = loaded.encode(list(texts), show_progress_bar=False)
    except Exception as error:  # files of others: whatever the library makes of them
        raise ModelError(f"embedding model '{model}': {_first_line(error)}") from error
    return vectors


def _directory(model: str, revision: str | None) -> Path:
    local = find_resource(model)
    if local is not None:
        return local
    from huggingface_hub import snapshot_download

    known = cached_commit("model", model, revision) or revision  # not what it became since
    try:
        return Path(snapshot_download(model, revision=known, ignore_patterns=NOT_NEEDED))
    except Exception as error:  # the client raises a dozen kinds
        raise ModelError(
            f"embedding model '{model}' is not a directory, and the Hub gave: {_first_line(error)}"
        ) from error


def _refuse_pickles(directory: Path) -> None:
    """Every part of a model (transformer, dense layer, …) has a folder, with its weights in it."""
    for path in sorted(directory.rglob("*")):
        if path.suffix in PICKLES and not any(path.parent.glob("*.safetensors")):
            raise ModelError(
                f"{path} is a pickle, which can run code when loaded, and there are no safetensors "
                "beside it; save the model again with safe_serialization=True"
            )


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
