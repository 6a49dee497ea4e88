"""A tokenizer that cuts as one does and keeps the special tokens of another."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llm_distill.distillation.transfer.new_tokenizer import (
    byte_tokenizer,
    kept_tokens,
    tokenizer_with,
)
from llm_distill.errors import ModelError
from tests.methods import small_tokenizers as small

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n\n{{ m.content }}<think>\n"
    "</turn>{% endfor %}{% if add_generation_prompt %}<turn>model\n\n{% endif %}"
)
MESSAGES = [{"role": "user", "content": "Hi  you"}, {"role": "model", "content": "日本語\r\n"}]
CUTTERS: dict[str, Callable[[], Any]] = {
    "byte-level": small.byte_level,
    "tiktoken": small.tiktoken,
    "replace": lambda: small.sentencepiece_bpe("replace"),
    "prepend": lambda: small.sentencepiece_bpe("prepend"),
    "metaspace": lambda: small.sentencepiece_bpe("metaspace"),
    "unigram": small.unigram,
}


def the_source() -> PreTrainedTokenizerFast:
    """Byte-level, with a BOS that it puts there itself, chat markers and flags of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {"<pad>": 0, "<bos>": 1, **{letter: 2 + i for i, letter in enumerate(alphabet)}}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<pad>", "<bos>", "<turn>", AddedToken("</turn>", rstrip=True)])
    tokenizer.add_tokens(["<think>", "<tool>", "\n\n"])
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<bos> $A", pair="<bos> $A <turn>:1 $B:1",
                special_tokens=[("<bos>", 1), ("<turn>", 258)],
            ),
        ]
    )  # fmt: skip
    made = small.fast(tokenizer, bos_token="<bos>", eos_token="</turn>", pad_token="<pad>")
    made.chat_template = TEMPLATE
    made.model_max_length = 99
    made.padding_side = "left"
    return made


def plain(tokenizer: Any, text: str) -> list[str]:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return tokenizer.convert_ids_to_tokens(ids)


def test_special_tokens_and_what_the_chat_template_writes_are_kept() -> None:
    kept = [token["content"] for token in kept_tokens(the_source())]
    # Not <tool>, which nothing writes; nor the line feeds, which the template has too, but as text.
    assert kept == ["<pad>", "<bos>", "<turn>", "</turn>", "<think>"]


@pytest.mark.parametrize("name", CUTTERS)
@pytest.mark.parametrize("saved", [False, True])
def test_text_is_cut_as_by_the_one_and_wrapped_as_by_the_other(name, saved, tmp_path) -> None:
    cutter, source = CUTTERS[name](), the_source()
    made = tokenizer_with(cutter.backend_tokenizer, source, "other")
    if saved:
        made.save_pretrained(tmp_path)
        made = AutoTokenizer.from_pretrained(tmp_path)
    for text in small.TEXTS:
        own = cutter(text, add_special_tokens=False)["input_ids"]
        if cutter.eos_token_id in own:  # <|end|> is text now
            assert made.decode(made(text, add_special_tokens=False)["input_ids"]) == text
            continue
        assert plain(made, text) == plain(cutter, text), text
        assert made(text)["input_ids"][0] == made.bos_token_id
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert made.decode(ids) == cutter.decode(own)
    vocabulary = made.get_vocab()
    assert sorted(vocabulary.values()) == list(range(len(made)))
    specials = [token["content"] for token in kept_tokens(source)]
    unknown = ["<unk>"] if name == "unigram" else []
    assert {*cutter.all_special_tokens} & set(vocabulary) == {*unknown}
    after = [made.convert_ids_to_tokens(len(made) - 1 - i) for i in range(len(specials))]
    assert after[::-1] == specials
    assert made("a", "b")["input_ids"][1:-1].count(made.convert_tokens_to_ids("<turn>")) == 1
    chat = made.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    assert chat == source.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    ids = made(chat, add_special_tokens=False)["input_ids"]
    assert ids.count(made.convert_tokens_to_ids("<turn>")) == 3
    assert ids.count(made.convert_tokens_to_ids("<think>")) == 2
    assert (made.bos_token, made.eos_token, made.pad_token) == ("<bos>", "</turn>", "<pad>")
    assert (made.model_max_length, made.padding_side) == (99, "left")
    assert [made.all_special_tokens, made.unk_token] == [source.all_special_tokens, None]
    flags = {t["content"]: t for t in json.loads(made.backend_tokenizer.to_str())["added_tokens"]}
    assert flags["</turn>"]["rstrip"]
    assert not flags["<think>"]["special"]


def test_a_byte_is_a_token() -> None:
    made = tokenizer_with(byte_tokenizer(), the_source(), "bytes")
    assert len(made) == 256 + 5
    for text in small.TEXTS:
        ids = made(text, add_special_tokens=False)["input_ids"]
        assert bytes(ids) == text.encode()
        assert made.decode(ids) == text
    assert made("<turn>é")["input_ids"] == [257, 258, *"é".encode()]


def test_what_is_a_word_to_the_one_and_special_to_the_other_is_special() -> None:
    """And what is merged out of it goes, so that the merges still hold together."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<t", "ur", "<tur", "n>", "<turn>", "<turn>!"]
    vocabulary = {word: i for i, word in enumerate([*letters, *words])}
    merges = [("<", "t"), ("u", "r"), ("<t", "ur"), ("n", ">"), ("<tur", "n>"), ("<turn>", "!")]
    cutter = Tokenizer(models.BPE(vocabulary, merges))
    cutter.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made = tokenizer_with(cutter, the_source(), "other")
    assert plain(made, "<turn>!<turn") == ["<turn>", "!", "<tur", "n"]
    assert made.convert_tokens_to_ids("<turn>") > made.convert_tokens_to_ids("<turn>!")


def test_added_tokens_that_are_text_stay() -> None:
    cutter = small.byte_level()
    cutter.add_tokens(["\n\n\n", "<tool>"])
    made = tokenizer_with(cutter.backend_tokenizer, the_source(), "other")
    assert plain(made, "a\n\n\nb<tool>") == ["a", "\n\n\n", "b", "<tool>"]


def test_an_unknown_token_is_kept_where_bytes_are_missing() -> None:
    cutter = Tokenizer(models.BPE({"<unk>": 0, "a": 1, "▁": 2}, [], unk_token="<unk>"))
    cutter.pre_tokenizer = pre_tokenizers.Metaspace("▁", "never")
    source = the_source()
    made = tokenizer_with(cutter, source, "other")
    assert plain(made, "a é") == ["a", "▁", "<unk>"]
    assert "<unk>" not in source.get_vocab()
    source.add_special_tokens({"unk_token": "<?>"})
    made = tokenizer_with(cutter, source, "other")
    assert plain(made, "a é") == ["a", "▁", "<?>"]
    assert "<unk>" not in made.get_vocab()


@pytest.mark.parametrize("kind", [processors.BertProcessing, processors.RobertaProcessing])
def test_other_ways_to_put_tokens_around_a_text(kind: Any) -> None:
    source = the_source()
    source.backend_tokenizer.post_processor = kind(("</turn>", 259), ("<bos>", 1))
    made = tokenizer_with(small.byte_level().backend_tokenizer, source, "other")
    ids = made("a")["input_ids"]
    assert made.convert_ids_to_tokens(ids) == ["<bos>", "a", "</turn>"]


def test_nothing_around_a_text_stays_nothing() -> None:
    made = tokenizer_with(small.byte_level().backend_tokenizer, small.tiktoken(), "other")
    assert made("a")["input_ids"] == made("a", add_special_tokens=False)["input_ids"]


def test_word_piece_is_refused() -> None:
    with pytest.raises(ModelError, match="model 'bert' has a WordPiece tokenizer, which cannot"):
        tokenizer_with(small.word_piece().backend_tokenizer, the_source(), "bert")
