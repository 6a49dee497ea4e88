"""A small tokenizer of every family, built here, and texts that are hard to put back together."""

from __future__ import annotations

from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import TikTokenConverter

TEXTS = (
    "Anna has 12 apples, and gives 3 of them away.",
    " leading space",
    "   three of them, and two behind  ",
    "tab\there\n\n\tand  there\n",
    "line\r\nline\r\n\r\n",
    "日本語のテキスト。中文,한국어",
    "👩‍👩‍👧‍👦 a family, 👍🏽 and 🏳️‍🌈",
    "naïve café, e\u0301 and ﬁ",
    "العَرَبِيَّة עִבְרִית",
    "no-break\u00a0space, thin\u2009one, zero\u200bwidth, line\u2028separator",
    "\x00\x7f\x80\ufffd\U0010fffd",
    "<|end|> of it Ġ Ċ",
    "for i in range(10):\n    if i % 2:\n        print(i)\n",
    "",
)
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's and SmolLM2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS * 2,
        trainers.BpeTrainer(
            vocab_size=500,
            initial_alphabet=alphabet,
            special_tokens=["<|end|>"],
            show_progress=False,
        ),
    )
    return fast(tokenizer, eos_token="<|end|>")


class Ranks(TikTokenConverter):
    """Its converter, with ranks that need no file."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        tokens = [bytes([byte]) for byte in range(256)]
        tokens += [b" a", b"an", b" an", b"\r\n", b"\n\n", "é".encode(), b"\xe6\x97", b"\xf0\x9f"]
        return {token: rank for rank, token in enumerate(tokens)}


def tiktoken() -> PreTrainedTokenizerFast:
    """As transformers makes Llama 3's of a tiktoken file."""
    converter = Ranks(vocab_file="none", extra_special_tokens=["<|end|>"])
    return fast(converter.converted(), eos_token="<|end|>")


def sentencepiece_bpe(space: str) -> PreTrainedTokenizerFast:
    """As Gemma's (`replace`), Llama 2's (`prepend`) or the one transformers makes (`metaspace`)."""
    marked = [text.replace(" ", "▁") for text in TEXTS]
    trained = Tokenizer(models.BPE())
    trained.train_from_iterator(
        [text for text in marked if text.isascii() or text.startswith("tab")] + marked[:4],
        trainers.BpeTrainer(vocab_size=150, show_progress=False),
    )
    merges = [pair for pair in trained_merges(trained) if "\n" not in "".join(pair)]
    letters = sorted({*"▁abcdefghijklmnopqrstuvwxyzAT0123456789.,", *"".join(map("".join, merges))})
    pieces = dict.fromkeys([*SPECIAL, *BYTES, "▁▁", *letters, *map("".join, merges)])
    vocabulary = {token: index for index, token in enumerate(pieces)}
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if space == "replace":
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    elif space == "prepend":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=False)
    if space != "replace":
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.decoder = decoders.Sequence(steps)
    tokenizer.add_special_tokens(SPECIAL)
    return fast(tokenizer, unk_token="<unk>", eos_token="</s>")


def trained_merges(tokenizer: Tokenizer) -> list[tuple[str, str]]:
    import json

    return [(left, right) for left, right in json.loads(tokenizer.to_str())["model"]["merges"]]


def unigram() -> PreTrainedTokenizerFast:
    """SentencePiece's Unigram with byte fallback."""
    pieces = [(token, 0.0) for token in SPECIAL] + [(token, -20.0) for token in BYTES]
    words = ["▁a", "▁and", "▁the", "▁s", "ap", "ple", "s", "▁", "▁▁", "日本", "語", "é"]
    pieces += [(word, -3.0 - 0.1 * i) for i, word in enumerate(words)]
    pieces += [(letter, -8.0) for letter in "bcdefghijklmnopqrtuvwxyz0123456789.,"]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always")
    tokenizer.decoder = decoders.Metaspace("▁", "always")
    tokenizer.add_special_tokens(SPECIAL)
    return fast(tokenizer, unk_token="<unk>", eos_token="</s>")


def byte_tokenizer() -> ByT5Tokenizer:
    return ByT5Tokenizer()


def word_piece() -> PreTrainedTokenizerFast:
    """As BERT's: what it writes cannot be known."""
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return fast(tokenizer, unk_token="[UNK]")


def word_endings() -> PreTrainedTokenizerFast:
    """As CLIP's: byte-level letters, but the end of a word is marked and the space is lost."""
    model = models.BPE({"a": 0, "a</w>": 1}, [], end_of_word_suffix="</w>", unk_token="a")
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True), pre_tokenizers.ByteLevel()]
    )
    return fast(tokenizer)


def characters() -> PreTrainedTokenizerFast:
    """BPE that no step before it tells how spaces are written."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return fast(tokenizer)


def fast(tokenizer: Tokenizer, **special: str) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
