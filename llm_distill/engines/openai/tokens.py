"""The tokenizer of a model that is on a server: texts are sent there as its ids."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llm_distill.engines.codec import Codec
from llm_distill.errors import ModelError
from llm_distill.methods.chat_format import chat_format
from llm_distill.models.sources import context_length, load_tokenizer

if TYPE_CHECKING:
    from llm_distill.models.sources import ModelSource

NO_LIMIT = 10**9


def codec_and_ids(source: ModelSource, text: str) -> tuple[Codec, list[int]]:
    """What reads requests for a model, and the ids of a text without special tokens.

    Raises:
        ModelError: there is no tokenizer at `source`.
    """
    try:
        tokenizer: Any = load_tokenizer(source, is_alone=True)
    except ModelError as error:
        raise ModelError(
            f"{error}; likelihoods from a server need its model's tokenizer here: let "
            "model_name_or_path name that model, and engine.model what the server calls it"
        ) from error
    try:
        context = context_length(source)
    except ModelError:  # a tokenizer alone; the server knows, and answers so
        context = NO_LIMIT
    chat = chat_format(source, tokenizer)
    codec = Codec(source.name, tokenizer, frozenset(), context, "skip", chat)
    return codec, list(tokenizer(text, add_special_tokens=False)["input_ids"])
