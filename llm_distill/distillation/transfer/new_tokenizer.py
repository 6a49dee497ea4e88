"""A tokenizer that cuts text as one tokenizer does, with the special tokens of another.

What stands in its tokenizer.json, and where from:

    normalizer, pre-tokenizer, vocabulary, merges, decoder    the one that cuts
    special tokens, what is put around a text, chat template  the one that is kept

Ids: the vocabulary first, the special tokens after it. So it is a tokenizer like any other, which
transformers and vLLM load without code of ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_distill.errors import ModelError
from llm_distill.methods.token_bytes import BYTE_OF_LETTER, BYTE_PIECES


def byte_tokenizer() -> Any:
    """A `tokenizers.Tokenizer` that cuts text into its UTF-8 bytes; the id is the byte."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    made = Tokenizer(models.BPE(vocab=BYTE_OF_LETTER, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    return made


def kept_tokens(tokenizer: Any) -> list[dict[str, Any]]:
    """Added tokens, as tokenizer.json writes them, that another tokenizer has to keep.

    The special ones, and those that the chat template writes (`<think>` is not one of them in some
    models). Other added tokens are pieces of text, such as Gemma's two line feeds. They are found
    in a text before it is normalized: another normalizer must not change what is looked for.
    """
    named = {*tokenizer.all_special_tokens}
    template = str(tokenizer.chat_template or "")
    return [
        {**token, "normalized": False}
        for token in json.loads(tokenizer.backend_tokenizer.to_str())["added_tokens"]
        if token["special"]
        or token["content"] in named
        or (token["content"].strip() and token["content"] in template)
    ]


def tokenizer_with(cutter: Any, source: Any, name: str) -> Any:
    """The new tokenizer, a `PreTrainedTokenizerFast`.

    cutter: the `tokenizers.Tokenizer` that cuts; its own special tokens are left out.
    source: the tokenizer whose special tokens, chat template and settings are kept.
    name: what the cutter's model is called, for messages.

    Raises:
        ModelError: the cutter is of a kind that does not write every text.
    """
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    layout = json.loads(cutter.to_str())
    kept = kept_tokens(source)
    layout["added_tokens"] = _cut_with(layout, kept, source.unk_token, name)
    ids = {token["content"]: token["id"] for token in layout["added_tokens"]}
    around = json.loads(source.backend_tokenizer.to_str())["post_processor"]
    layout["post_processor"] = _post_processor(layout["post_processor"], around, ids)
    layout["truncation"] = layout["padding"] = None
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(layout)),
        **source.special_tokens_map,
        extra_special_tokens=source.extra_special_tokens,
        model_max_length=source.model_max_length,
        model_input_names=source.model_input_names,
        padding_side=source.padding_side,
        truncation_side=source.truncation_side,
        clean_up_tokenization_spaces=False,
    )
    made.chat_template = source.chat_template
    return made


def _cut_with(
    layout: dict[str, Any], kept: Sequence[Mapping[str, Any]], unknown: str | None, name: str
) -> list[dict[str, Any]]:
    """Change the model of `layout` to have the new vocabulary; returns the added tokens.

    unknown: the kept token for what the vocabulary cannot write, if there is one.

    Raises:
        ModelError: it is neither BPE nor Unigram.
    """
    model, own = layout["model"], {token["content"]: token for token in layout["added_tokens"]}
    if model["type"] not in ("BPE", "Unigram"):
        raise ModelError(
            f"model '{name}' has a {model['type']} tokenizer, which cannot write every text; "
            "take one with a BPE or Unigram tokenizer"
        )
    added = {token["content"]: dict(token) for token in kept}
    own_unknown = _unknown(model)
    gone = {*added, own_unknown, *(each for each, token in own.items() if token["special"])}
    words = [word for word in _words(model) if word not in gone]
    needed = None
    if own_unknown is not None and not _writes_all(model, words):
        needed = unknown or own_unknown
        added.setdefault(needed, dict(own.get(needed, _special(needed))))
        words.append(needed)
    _set_words(model, words, needed)
    ids = {word: index for index, word in enumerate(words)}
    text = (dict(token) for content, token in own.items() if content not in gone)
    found = [*text, *added.values()]
    for token in found:
        token["id"] = ids.setdefault(token["content"], len(ids))
    return sorted(found, key=lambda token: int(token["id"]))


def _words(model: Mapping[str, Any]) -> list[str]:
    """The vocabulary in the order of its ids."""
    vocabulary = model["vocab"]
    if model["type"] == "Unigram":
        return [word for word, _ in vocabulary]
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _set_words(model: dict[str, Any], words: Sequence[str], unknown: str | None) -> None:
    if model["type"] == "Unigram":
        scores = dict(model["vocab"])
        model["vocab"] = [[word, scores.get(word, 0.0)] for word in words]
        model["unk_id"] = None if unknown is None else words.index(unknown)
        return
    there = set(words)
    model["vocab"] = {word: index for index, word in enumerate(words)}
    model["unk_token"] = unknown
    # Only texts of tokens that are left out were merged by the others.
    model["merges"] = [
        merge
        for merge in model["merges"]
        for first, second in [merge.split(" ") if isinstance(merge, str) else merge]
        if {first, second, first + second} <= there
    ]


def _unknown(model: Mapping[str, Any]) -> str | None:
    """The token that stands for what no other writes."""
    if model["type"] == "Unigram":
        index: int | None = model["unk_id"]
        return None if index is None else _words(model)[index]
    token: str | None = model["unk_token"]
    return token


def _writes_all(model: Mapping[str, Any], words: Sequence[str]) -> bool:
    """Whether it works without an unknown token: BPE with a token for each byte. Unigram never."""
    there = set(words)
    falls_back = model["byte_fallback"] and there.issuperset(BYTE_PIECES)
    return model["type"] == "BPE" and (falls_back or there.issuperset(BYTE_OF_LETTER))


def _special(content: str) -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"content": content, **dict.fromkeys(flags, False), "special": True}


def _post_processor(
    cuts: dict[str, Any] | None, keeps: dict[str, Any] | None, ids: Mapping[str, int]
) -> dict[str, Any] | None:
    """What puts special tokens around a text as `keeps` does.

    A byte-level part sets only where a token begins in the text; it is that of the one that cuts.
    """
    byte_level = [part for part in _parts(cuts) if part["type"] == "ByteLevel"]
    around = [_with_ids(part, ids) for part in _parts(keeps) if part["type"] != "ByteLevel"]
    parts = byte_level + around
    return {"type": "Sequence", "processors": parts} if len(parts) > 1 else next(iter(parts), None)


def _parts(processor: dict[str, Any] | None) -> list[dict[str, Any]]:
    if processor is None:
        return []
    if processor["type"] != "Sequence":
        return [processor]
    return [each for part in processor["processors"] for each in _parts(part)]


def _with_ids(processor: dict[str, Any], ids: Mapping[str, int]) -> dict[str, Any]:
    """The same, of the same tokens: TemplateProcessing, or BERT's and RoBERTa's with their pair."""
    changed = dict(processor)
    for end in ("cls", "sep"):
        if end in changed:
            changed[end] = [changed[end][0], ids[changed[end][0]]]
    if "special_tokens" in changed:
        changed["special_tokens"] = {
            name: {**token, "ids": [ids[each] for each in token["tokens"]]}
            for name, token in changed["special_tokens"].items()
        }
    return changed
