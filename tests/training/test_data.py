"""Tokens for training against the tokens that the engine reads and writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import DataError
from llm_distill.models.sources import load_tokenizer
from llm_distill.prompts import as_messages
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import dpo_example, sft_example, shuffled_column, token_dataset
from llm_distill.training.encoder import PairEncoder, pair_encoder


@pytest.fixture
def text(text_model):
    return pair_encoder(text_model, 64)


@pytest.fixture
def chat(chat_model):
    return pair_encoder(chat_model, 64)


def test_the_prompts_tokens_are_those_that_the_engine_reads(text_model, chat_model, text, chat):
    from llm_distill.engines.base import Request, SamplingSettings
    from llm_distill.engines.transformers.engine import TransformersEngine

    engine = TransformersEngine(text_model, TransformersSettings(device="cpu"))

    def read(prompt):
        return engine._codec.read(Request("r", prompt, SamplingSettings(max_tokens=1))).tokens

    for prompt in ("How old is Ann?\nAnswer:", "ab", "1 + 1 ="):
        assert text.encode(prompt, "ab")[0] == read(prompt)
        assert chat.encode(prompt, "ab")[0] == read(as_messages(prompt))


def test_a_text_completion_begins_with_one_space_and_ends_with_one_end(text):
    end = text.tokenizer.eos_token_id
    for written in (
        "Ann is 21.",
        "  Ann is 21.\n",
        "Ann is 21.<|end|>",
        "Ann is 21.<|end|><|end|>",
    ):
        _, tail = text.encode("How old is Ann?\nAnswer:  ", written)
        assert text.tokenizer.decode(tail) == " Ann is 21.<|end|>"
        assert tail.count(end) == 1
        assert tail[-1] == end


def test_a_chat_completion_ends_where_the_turn_does(chat):
    head, tail = chat.encode("How old is Ann?", " Ann is 21.\n")
    assert chat.tokenizer.decode(head) == "<|user|>How old is Ann?<|assistant|>"
    assert chat.tokenizer.decode(tail) == "Ann is 21.<|end|>"  # the template's new line is not


def test_a_turn_mark_that_ends_no_generation_is_followed_by_the_end(chat):
    chat.tokenizer.chat_template = chat.tokenizer.chat_template.replace("<|end|>\n", "<|user|>\n")
    _, tail = chat.encode("How old is Ann?", "21.")
    assert chat.tokenizer.decode(tail) == "21.<|user|><|end|>"


def test_a_second_end_token_of_the_model_ends_a_turn_too(chat):
    chat.tokenizer.chat_template = chat.tokenizer.chat_template.replace("<|end|>\n", "<|user|>\n")
    other = chat.tokenizer.convert_tokens_to_ids("<|user|>")
    _, tail = replace(chat, ends=chat.ends | {other}).encode("How old is Ann?", "21.")
    assert chat.tokenizer.decode(tail) == "21.<|user|>"


def test_no_token_lies_across_the_border(chat):
    tokenizer = chat.tokenizer
    tokenizer.chat_template = (  # a turn of the assistant is opened with a plain letter
        "{% for m in messages %}{% if m.role == 'assistant' %}a{{ m.content }}{% else %}"
        "{{ m.content + ' ' }}{% endif %}{% endfor %}{% if add_generation_prompt %}a{% endif %}"
    )
    assert len(tokenizer("ab")["input_ids"]) == 1  # as one text the two would merge
    head, tail = chat.encode("x", "b")
    assert head == tokenizer("x a")["input_ids"]
    assert tail == [*tokenizer("b")["input_ids"], tokenizer.eos_token_id]


def test_a_tokenizer_that_puts_a_space_before_any_text_adds_none_at_the_border():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    pieces = ["<s>", "</s>", *"▁abc", "▁a", "▁b", "▁c"]
    merges = [("▁", letter) for letter in "abc"]
    inner = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    inner.decoder = decoders.Metaspace(prepend_scheme="first")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>")
    encoder = PairEncoder(tokenizer, frozenset({1}), "text", 64)
    head, tail = encoder.encode("a b", "c")
    assert tokenizer.convert_ids_to_tokens(head) == ["▁a", "▁b"]
    assert tokenizer.convert_ids_to_tokens(tail) == ["▁c", "</s>"]


def test_the_end_is_trained_where_it_is_the_pad_token_too(pad_is_eos_model):
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    encoder = pair_encoder(pad_is_eos_model, 64)
    end = encoder.tokenizer.eos_token_id
    assert encoder.tokenizer.pad_token_id == end
    short = sft_example(*encoder.encode("a", "b"))
    long = sft_example(*encoder.encode("a", "b c d"))
    batch = DataCollatorForLanguageModeling(pad_token_id=end)([short, long])
    assert [row.count(end) for row in batch["labels"].tolist()] == [1, 1]
    assert batch["attention_mask"][0].sum() == len(short["input_ids"])


def test_labels_by_hand():
    example = sft_example([5, 6, 7], [8, 1])
    assert example == {"input_ids": [5, 6, 7, 8, 1], "labels": [-100, -100, -100, 8, 1]}


@pytest.mark.parametrize(
    ("prompt", "completion", "reason"),
    [
        (None, "b", "empty prompt"),
        (" \n", "b", "empty prompt"),
        ("a", None, "empty completion"),
        ("a", " \n", "empty completion"),
        ("a", "<|end|>", "empty completion"),
        ("a", "b<|end|>c", "end token inside the completion"),
        ("a", "z" * 80, "longer than max_length"),
    ],
)
def test_what_cannot_be_trained_on_says_why(text, chat, prompt, completion, reason):
    for encoder in (text, chat):
        with pytest.raises(UnusableRowError, match=reason):
            encoder.encode(prompt, completion)


def test_a_row_of_just_max_length_is_kept(text):
    head, tail = text.encode("a", "b c")
    exact = len(head) + len(tail)
    assert replace(text, max_length=exact).encode("a", "b c") == (head, tail)
    with pytest.raises(UnusableRowError):
        replace(text, max_length=exact - 1).encode("a", "b c")


def test_refused_rows_are_counted_and_none_left_is_an_error(text):
    dropped: list[str] = []

    def encode(row):
        return sft_example(*text.encode(row["p"], row["c"]))

    rows = [{"p": "a", "c": ""}, {"p": "a", "c": "b"}, {"p": "", "c": "b"}, {"p": "a", "c": None}]
    dataset = token_dataset(rows, encode, dropped.append, "drafts")
    assert len(dataset) == 1
    assert dropped == ["empty completion", "empty prompt", "empty completion"]
    with pytest.raises(DataError, match=r"'drafts'.*1 empty completion, 1 empty prompt"):
        token_dataset([rows[0], rows[2]], encode, dropped.append, "drafts")


def test_a_pair_shares_its_prompt_and_must_differ(text):
    pair = dpo_example(text, {"prompt": "a", "chosen": "b", "rejected": "c"})
    tokens = load_tokenizer_ids(text)
    assert pair == {
        "prompt_ids": tokens("a"),
        "chosen_ids": [*tokens(" b"), text.tokenizer.eos_token_id],
        "rejected_ids": [*tokens(" c"), text.tokenizer.eos_token_id],
    }
    with pytest.raises(UnusableRowError, match="the same"):
        dpo_example(text, {"prompt": "a", "chosen": "b", "rejected": " b\n"})


def load_tokenizer_ids(encoder):
    return lambda text: encoder.tokenizer(text)["input_ids"]


def test_ends_come_from_the_config_where_there_is_no_generation_config(text_model, tmp_path):
    import shutil

    shutil.copytree(text_model.path, tmp_path / "m")
    (tmp_path / "m" / "generation_config.json").unlink()
    source = replace(text_model, path=str(tmp_path / "m"))
    assert pair_encoder(source, 8).ends == {load_tokenizer(source).eos_token_id}


def test_one_column_is_shuffled_and_the_others_stay():
    from datasets import Dataset

    weights = [float(n) for n in range(30)]
    rows = Dataset.from_dict({"input_ids": [[n] for n in range(30)], "weight": weights})
    found = shuffled_column(rows, "weight", 1)
    assert sorted(found["weight"]) == weights
    assert list(found["weight"]) != weights
    assert list(found["input_ids"]) == list(rows["input_ids"])
    assert list(shuffled_column(rows, "weight", 1)["weight"]) == list(found["weight"])
    assert list(shuffled_column(rows, "weight", 2)["weight"]) != list(found["weight"])
