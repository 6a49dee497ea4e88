from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_distill.methods.token_bytes import TokenBytes, token_bytes
from tests.methods import small_tokenizers as small

ROOT = Path(__file__).parents[2]
BYTE_LEVEL = {"byte-level": small.byte_level, "tiktoken": small.tiktoken}
PREFIXED = {
    "Llama 2": lambda: small.sentencepiece_bpe("prepend"),
    "Metaspace": lambda: small.sentencepiece_bpe("metaspace"),
    "Unigram": small.unigram,
}
EXACT = {
    **BYTE_LEVEL,
    "Gemma": lambda: small.sentencepiece_bpe("replace"),
    "ByT5": small.byte_tokenizer,
}
Make = Callable[[], Any]


def encode(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False)
    return ids


@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_the_tokens_of_a_text_write_its_bytes(make: Make) -> None:
    tokenizer = make()
    table = token_bytes(tokenizer)
    for text in small.TEXTS:
        assert table.text(encode(tokenizer, text)) == text.encode()


@pytest.mark.parametrize("make", PREFIXED.values(), ids=PREFIXED)
def test_a_dummy_prefix_is_the_only_difference(make: Make) -> None:
    tokenizer = make()
    table = token_bytes(tokenizer)
    for text in small.TEXTS:
        written = table.text(encode(tokenizer, text))
        if tokenizer.backend_tokenizer.normalizer is None and text.startswith(" "):
            assert written == text.encode()  # Metaspace adds no second one
        else:
            assert written == (b" " + text.encode() if text else b"")


@pytest.mark.parametrize("make", [*EXACT.values(), *PREFIXED.values()], ids=[*EXACT, *PREFIXED])
def test_opens_is_what_an_enumeration_finds(make: Make) -> None:
    tokenizer = make()
    table = token_bytes(tokenizer)
    added = tokenizer.added_tokens_decoder
    special = {index for index in added if added[index].special} | set(tokenizer.all_special_ids)
    expected = [
        table.text([token])[:1] in (b" ", b"\t", b"\n") or token in special
        for token in range(len(table.lengths))
    ]
    assert table.boundary_tokens().tolist() == expected
    assert any(expected)
    assert not all(expected)
    padded = table.boundary_tokens(len(expected) + 3)
    assert padded.tolist() == [*expected, False, False, False]
    assert table.boundary_tokens(2).tolist() == expected[:2]


@pytest.mark.parametrize("name", ["tiny-teacher", "tiny-student", "SmolLM2-135M-Instruct"])
def test_tokenizers_of_models(name: str) -> None:
    from transformers import AutoTokenizer

    path = ROOT / "data/models" / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    tokenizer = AutoTokenizer.from_pretrained(path)
    table = token_bytes(tokenizer)
    for text in small.TEXTS:
        assert table.text(encode(tokenizer, text)) == text.encode()
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    assert np.flatnonzero(table.is_special).tolist() == sorted(special)
    assert table.text(special) == "".join(tokenizer.convert_ids_to_tokens(special)).encode()


@pytest.mark.skipif("GEMMA_TOKENIZER" not in os.environ, reason="GEMMA_TOKENIZER names a folder")
def test_gemmas_own_tokenizer() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(os.environ["GEMMA_TOKENIZER"])
    table = token_bytes(tokenizer)
    for text in (*small.TEXTS, "a" + " " * 40 + "b\n\n\n", "<start_of_turn>user\nhi<table>"):
        assert table.text(encode(tokenizer, text)) == text.encode()
    assert len(table.lengths) == len(tokenizer)
    spaces = encode(tokenizer, " " * 8)
    assert table.boundary_tokens()[spaces].all()


def test_byte_pieces_and_byte_letters_may_be_parts_of_a_character() -> None:
    gemma = EXACT["Gemma"]()
    piece = gemma.convert_tokens_to_ids("<0xF0>")
    assert token_bytes(gemma).text([piece]) == b"\xf0"
    text = "a </s> b<0x41>"
    assert token_bytes(gemma).text(encode(gemma, text)) == text.encode()
    byte_level = small.byte_level()
    table = token_bytes(byte_level)
    letters = [byte_level.convert_tokens_to_ids(letter) for letter in "ðĠ"]
    assert table.text(letters) == b"\xf0 "


def test_byte_pieces_without_byte_fallback_are_text() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("<0x41>", -1.0)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    assert token_bytes(small.fast(tokenizer)).text([1]) == b"<0x41>"


def test_added_tokens_are_their_literal_text() -> None:
    from tokenizers import AddedToken

    for make in (small.byte_level, EXACT["Gemma"]):
        tokenizer = make()
        tokenizer.add_tokens([AddedToken("<é  Ġ▁>", normalized=False)])
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|Ġ user▁|>"]})
        plain, special = len(tokenizer) - 2, len(tokenizer) - 1
        table = token_bytes(tokenizer)
        assert table.text([plain, special]) == "<é  Ġ▁><|Ġ user▁|>".encode()
        assert table.is_special[[plain, special]].tolist() == [False, True]


def test_an_added_token_of_the_vocabulary_is_read_as_written() -> None:
    tokenizer = EXACT["Gemma"]()
    spaces = tokenizer.convert_tokens_to_ids("▁▁")
    tokenizer.add_tokens(["▁▁"])
    assert tokenizer.convert_tokens_to_ids("▁▁") == spaces
    assert token_bytes(tokenizer).text([spaces]) == b"  "
    tokenizer.add_special_tokens({"additional_special_tokens": ["▁▁"]})
    assert tokenizer.convert_tokens_to_ids("▁▁") == spaces
    assert token_bytes(tokenizer).text([spaces]) == "▁▁".encode()


def test_a_vocabulary_may_lack_most_byte_pieces() -> None:
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"▁": 0, "<0x0A>": 1}, [], byte_fallback=True))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    assert token_bytes(small.fast(tokenizer)).text([0, 1]) == b" \n"


def test_a_gap_in_the_vocabulary_writes_nothing() -> None:
    from tokenizers import Tokenizer, decoders, models

    tokenizer = Tokenizer(models.BPE({"a": 0, "Ġ": 3}, []))
    tokenizer.decoder = decoders.ByteLevel()
    table = token_bytes(small.fast(tokenizer))
    assert table.lengths.tolist() == [1, 0, 0, 1]
    assert table.text([0, 1, 2, 3]) == b"a "
    assert table.boundary_tokens().tolist() == [False, False, False, True]


class CodePoints:
    """As Canine's: a slow tokenizer that names a token by its character, and not by its byte."""

    added_tokens_decoder: dict[int, Any] = {}
    all_special_ids: list[int] = []

    def get_vocab(self) -> dict[str, int]:
        return {chr(code): code for code in range(1000)}

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(character) for character in text]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (small.word_piece, "is WordPiece: the bytes"),
        (small.characters, "is BPE on characters, with no mark for a space"),
        (CodePoints, "CodePoints is a tokenizer without a tokenizers backend"),
        (small.word_endings, r"is BPE that marks where words end \('</w>'\)"),
    ],
)
def test_other_kinds_are_refused_by_name(make: Make, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        token_bytes(make())


@pytest.mark.parametrize("token", [-1, 2])
def test_an_id_beyond_the_vocabulary_is_an_error(token: int) -> None:
    table = TokenBytes(np.frombuffer(b"ab", np.uint8), np.array([0, 1, 2]), np.zeros(2, np.bool_))
    with pytest.raises(IndexError, match=rf"^token {token}\b|^index {token}\b"):
        table.text([0, token])
