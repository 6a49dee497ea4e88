"""A model with another tokenizer: which rows it has, what it still says, and that it loads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from llm_distill.distillation.transfer.new_tokenizer import kept_tokens
from llm_distill.distillation.transfer.tokenizer_transfer import transfer_tokenizer
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource
from llm_distill.paths import bundled_root
from llm_distill.training.weights import save_adapter
from tests.methods import small_tokenizers as small

TEACHER = ModelSource("base", str(bundled_root() / "data/models/tiny-teacher"))
STUDENT = ModelSource(
    "other", str(bundled_root() / "data/models/tiny-student"), prompt_format="text"
)
MESSAGES = [{"role": "user", "content": "What is 2 + 2?"}]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def no_warning(message: str) -> None:
    raise AssertionError(message)


def moved(
    source: ModelSource, target: ModelSource | None, directory: Path
) -> tuple[Any, Any, dict]:
    """The model and the tokenizer as others load them, and the counts."""
    counts = transfer_tokenizer(source, target, directory, no_warning)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    return model, AutoTokenizer.from_pretrained(directory), counts


def loaded(source: ModelSource) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(source.path).eval()
    return model, AutoTokenizer.from_pretrained(source.path)


def saved(directory: Path, tokenizer: Any, kind: Any = LlamaForCausalLM, **settings: Any):
    """A random model of a few rows more than the tokenizer has tokens."""
    torch.manual_seed(3)
    configs = {
        LlamaForCausalLM: (LlamaConfig, {**SIZES, "intermediate_size": 32}),
        PhiForCausalLM: (PhiConfig, {**SIZES, "intermediate_size": 32}),
        Qwen2ForCausalLM: (Qwen2Config, {**SIZES, "num_key_value_heads": 2}),
        GPT2LMHeadModel: (GPT2Config, {"n_embd": 16, "n_layer": 1, "n_head": 2}),
    }
    config, sizes = configs[kind]
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": None}
    settings = {**ends, "vocab_size": len(tokenizer) + 5, **settings}
    model = kind(config(**sizes, **settings))
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        torch.nn.init.normal_(model.get_output_embeddings().bias)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return ModelSource("tiny", str(directory), prompt_format="text")


@pytest.fixture(scope="module")
def in_students_tokens(tmp_path_factory) -> tuple[Any, Any, dict]:
    return moved(TEACHER, STUDENT, tmp_path_factory.mktemp("moved") / "model")


def test_a_token_that_both_have_has_its_row_to_the_bit(in_students_tokens) -> None:
    model, tokenizer, counts = in_students_tokens
    old, old_tokenizer = loaded(TEACHER)
    rows, old_rows = model.get_input_embeddings().weight, old.get_input_embeddings().weight
    old_vocabulary = old_tokenizer.get_vocab()
    n_same, specials = 0, set(old_tokenizer.all_special_tokens)
    for token, index in tokenizer.get_vocab().items():
        if token in old_vocabulary:
            assert torch.equal(rows[index], old_rows[old_vocabulary[token]]), token
            n_same += token not in specials
    assert counts == {
        "n_tokens": 576, "n_special": 4, "n_copied": n_same, "n_mean": 572 - n_same, "n_fallback": 0
    }  # fmt: skip
    assert 256 < n_same < 572
    assert model.config.vocab_size == len(tokenizer) == len(rows) == 576


def test_any_other_has_the_mean_of_the_rows_of_its_text(in_students_tokens) -> None:
    model, tokenizer, counts = in_students_tokens
    old, old_tokenizer = loaded(TEACHER)
    rows, old_rows = model.get_input_embeddings().weight, old.get_input_embeddings().weight
    n_mean = 0
    for token, index in tokenizer.get_vocab().items():
        if token not in old_tokenizer.get_vocab():
            pieces = old_tokenizer(tokenizer.decode([index]))["input_ids"]
            torch.testing.assert_close(rows[index], old_rows[pieces].mean(0))
            n_mean += 1
    assert n_mean == counts["n_mean"] > 0


def test_text_and_chat_and_ends(in_students_tokens) -> None:
    model, tokenizer, _ = in_students_tokens
    _, old_tokenizer = loaded(TEACHER)
    _, other = loaded(STUDENT)
    for text in small.TEXTS:
        names = [each.convert_ids_to_tokens(each(text)["input_ids"]) for each in (tokenizer, other)]
        if "<|end|>" not in text:
            assert names[0] == names[1]
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    chats = [
        each.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
        for each in (tokenizer, old_tokenizer)
    ]
    assert chats[0] == chats[1]
    for config in (model.config, model.generation_config):
        assert config.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")
        assert config.pad_token_id == tokenizer.convert_tokens_to_ids("<|pad|>")
        assert config.bos_token_id is None
    assert model.config.tie_word_embeddings
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert {token["content"] for token in kept_tokens(tokenizer)} == {
        "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>",
    }  # fmt: skip


def test_its_own_tokenizer_changes_nothing_that_it_says(tmp_path) -> None:
    model, tokenizer, counts = moved(TEACHER, TEACHER, tmp_path / "model")
    old, old_tokenizer = loaded(TEACHER)
    assert counts["n_mean"] == counts["n_fallback"] == 0
    prompt = old_tokenizer.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True)
    old_ids = old_tokenizer(prompt, return_tensors="pt")["input_ids"]
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    assert not torch.equal(ids, old_ids)  # special tokens stand after the others now
    names = [tokenizer.convert_ids_to_tokens(i) for i in range(len(tokenizer))]
    order = old_tokenizer.convert_tokens_to_ids(names)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, old(old_ids).logits[..., order])
    written = [
        each.generate(given, max_new_tokens=60, do_sample=False)[0, given.shape[1] :].tolist()
        for each, given in ((model, ids), (old, old_ids))
    ]
    assert [order[token] for token in written[0]] == written[1]


def test_to_bytes(tmp_path) -> None:
    model, tokenizer, counts = moved(TEACHER, None, tmp_path / "model")
    assert counts == {
        "n_tokens": 260, "n_special": 4, "n_copied": 256, "n_mean": 0, "n_fallback": 0
    }  # fmt: skip
    for text in small.TEXTS:
        if "<|end|>" not in text:
            assert tokenizer(text)["input_ids"] == [*text.encode()]
    ids = tokenizer("2 + 2", return_tensors="pt")["input_ids"]
    assert model.generate(ids, max_new_tokens=3, min_new_tokens=3).shape == (1, 8)
    old, old_tokenizer = loaded(TEACHER)
    row = old.get_input_embeddings().weight[old_tokenizer.convert_tokens_to_ids("Ġ")]
    assert torch.equal(model.get_input_embeddings().weight[0x20], row)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (LlamaForCausalLM, {"tie_word_embeddings": False}),
        (PhiForCausalLM, {"tie_word_embeddings": False}),  # its head has a bias
        (GPT2LMHeadModel, {}),
    ],
)
@pytest.mark.parametrize("to_bytes", [False, True])
def test_embedding_head_and_bias_each_by_their_own_rows(
    kind: Any, settings: dict[str, Any], to_bytes: bool, tmp_path
) -> None:
    """Of byte tokens: the source has each of them, SentencePiece's with letters of its own."""
    source = saved(tmp_path / "source", small.sentencepiece_bpe("prepend"), kind, **settings)
    model, tokenizer, counts = moved(source, None if to_bytes else STUDENT, tmp_path / "model")
    old, old_tokenizer = loaded(source)
    assert counts["n_fallback"] == 0
    assert counts["n_special"] == 3
    wanted = {"A": "A", "Ġ": "▁", "a": "a", "Ċ": "<0x0A>", "Ã": "<0xC3>", "!": "<0x21>"}
    wanted |= {token: token for token in ("<s>", "</s>", "<unk>")}
    new_ids = tokenizer.convert_tokens_to_ids(list(wanted))
    old_ids = old_tokenizer.convert_tokens_to_ids(list(wanted.values()))
    pairs = [
        (model.get_input_embeddings().weight, old.get_input_embeddings().weight),
        (model.get_output_embeddings().weight, old.get_output_embeddings().weight),
    ]
    if kind is PhiForCausalLM:
        pairs.append((model.get_output_embeddings().bias, old.get_output_embeddings().bias))
    for new_rows, old_rows in pairs:
        assert len(new_rows) == len(tokenizer)
        assert torch.equal(new_rows[new_ids], old_rows[old_ids])
    assert (pairs[0][0] is pairs[1][0]) == (kind is GPT2LMHeadModel)
    if not to_bytes:  # as it goes on after something: "▁thing", not "▁▁thing"
        index = tokenizer.convert_tokens_to_ids("Ġthing")
        before, *pieces = old_tokenizer("\n thing", add_special_tokens=False)["input_ids"][1:]
        assert before == old_tokenizer.convert_tokens_to_ids("<0x0A>")
        for new_rows, old_rows in pairs:
            torch.testing.assert_close(new_rows[index], old_rows[pieces].mean(0))


@pytest.mark.parametrize("space", ["replace", "prepend", "metaspace"])
def test_to_a_sentencepiece_tokenizer_and_back(space: str, tmp_path) -> None:
    target = saved(tmp_path / "target", small.sentencepiece_bpe(space))
    model, tokenizer, counts = moved(TEACHER, target, tmp_path / "model")
    assert counts["n_fallback"] == 0
    assert len(tokenizer) == len(small.sentencepiece_bpe(space)) - 3 + 4
    old, old_tokenizer = loaded(TEACHER)
    rows = model.get_input_embeddings().weight
    for new, before in (("<0xE6>", "æ"), ("▁", "Ġ"), ("A", "A"), ("<0x41>", "A")):
        row = old.get_input_embeddings().weight[old_tokenizer.convert_tokens_to_ids(before)]
        assert torch.equal(rows[tokenizer.convert_tokens_to_ids(new)], row)
    again, _, _ = moved(ModelSource("moved", str(tmp_path / "model")), TEACHER, tmp_path / "again")
    assert again.config.vocab_size == old.config.vocab_size


def test_ids_of_every_config_and_dtype(tmp_path) -> None:
    source = saved(tmp_path / "source", small.byte_level(), dtype=torch.bfloat16)
    file = tmp_path / "source/generation_config.json"
    config = json.loads(file.read_text())
    tokenizer = AutoTokenizer.from_pretrained(source.path)
    end, feed, two = tokenizer.convert_tokens_to_ids(["<|end|>", "Ċ", "ĊĊ"])
    assert two != tokenizer.unk_token_id
    config |= {
        "eos_token_id": [end, feed, two, 99999],
        "suppress_tokens": [feed],
        "bos_token_id": end,
    }
    file.write_text(json.dumps(config))
    model = AutoModelForCausalLM.from_pretrained(source.path).bfloat16()
    model.save_pretrained(source.path)
    said: list[str] = []
    transfer_tokenizer(source, None, tmp_path / "model", said.append)
    moved_model, new = loaded(ModelSource("m", str(tmp_path / "model")))
    ids = moved_model.generation_config
    assert new.eos_token_id == 256
    assert (ids.eos_token_id, ids.suppress_tokens, ids.bos_token_id) == ([256, 10], [10], 256)
    assert moved_model.config.eos_token_id == 256
    assert said == ["the model also ends at 'ĊĊ', which the new tokenizer lacks: this is left out"]
    assert moved_model.dtype == torch.bfloat16
    old_row = model.get_input_embeddings().weight[feed]
    assert torch.equal(moved_model.get_input_embeddings().weight[10], old_row)


def test_adapters_are_merged_in(tmp_path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    base, _ = loaded(TEACHER)
    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    save_adapter(get_peft_model(base, config), TEACHER, tmp_path / "adapter")
    source = replace(TEACHER, adapters=(str(tmp_path / "adapter"),))
    model, _, _ = moved(source, STUDENT, tmp_path / "model")
    plain, _, _ = moved(TEACHER, STUDENT, tmp_path / "plain")
    name = "model.layers.0.mlp.down_proj.weight"
    assert not torch.equal(model.state_dict()[name], plain.state_dict()[name])
    assert not (tmp_path / "model/adapter_config.json").exists()


def test_where_the_source_writes_no_such_bytes_the_mean_of_all_rows(tmp_path) -> None:
    """A SentencePiece tokenizer without byte tokens knows its letters only."""
    layout = json.loads(small.sentencepiece_bpe("replace").backend_tokenizer.to_str())
    pieces = [p for p in layout["model"]["vocab"] if not p.startswith("<0x")]
    layout["model"] |= {"vocab": {p: i for i, p in enumerate(pieces)}, "byte_fallback": False}
    layout["decoder"] = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    tokenizer = small.fast(
        Tokenizer.from_str(json.dumps(layout)), unk_token="<unk>", eos_token="</s>"
    )
    source = saved(tmp_path / "source", tokenizer)
    model, new, counts = moved(source, STUDENT, tmp_path / "model")
    old, _ = loaded(source)
    assert counts["n_fallback"] > 128
    mean = old.get_input_embeddings().weight[: len(tokenizer)].mean(0)
    row = model.get_input_embeddings().weight[new.convert_tokens_to_ids("Ã")]
    torch.testing.assert_close(row, mean)
    with pytest.raises(ModelError, match="'tiny' .* no tokens for the bytes of characters"):
        transfer_tokenizer(source, None, tmp_path / "bytes", no_warning)
    assert not (tmp_path / "bytes").exists()


def with_tokenizer(directory: Path, make: Callable[[], Any]) -> ModelSource:
    shutil.copytree(TEACHER.path, directory)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (directory / name).unlink()
    make().save_pretrained(directory)
    return ModelSource("odd", str(directory), prompt_format="text")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (small.word_piece, "odd.* WordPiece"),
        (small.word_endings, "odd.* marks where words end"),
        (small.byte_tokenizer, "'odd' .* has only a slow tokenizer .ByT5Tokenizer."),
    ],
)
def test_tokenizers_that_cannot_be_used(make: Callable[[], Any], message: str, tmp_path) -> None:
    odd = with_tokenizer(tmp_path / "odd", make)
    for source, target in ((odd, STUDENT), (TEACHER, odd)):
        with pytest.raises(ModelError, match=message):
            transfer_tokenizer(source, target, tmp_path / "model", no_warning)
    assert not (tmp_path / "model").exists()


def test_a_kind_of_model_that_transformers_gives_a_tokenizer_of_its_choice(tmp_path) -> None:
    source = saved(tmp_path / "source", small.byte_level(), Qwen2ForCausalLM)
    message = "loads that of every model of type 'qwen2' as Qwen2Tokenizer, with .*pre_tokenizer"
    with pytest.raises(ModelError, match=message):
        transfer_tokenizer(source, STUDENT, tmp_path / "model", no_warning)


def with_gaps() -> Any:
    """261 tokens whose ids go up to 295, the special ones after the gaps."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {"th": 270, "<|pad|>": 290, "<|end|>": 291, "<|turn|>": 293, "<|tool|>": 295}
    vocabulary = {letter: i for i, letter in enumerate(letters)} | words
    made = Tokenizer(models.BPE(vocabulary, [("t", "h")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([word for word in words if "|" in word])
    tokenizer = small.fast(made, eos_token="<|end|>", pad_token="<|pad|>")
    assert max(tokenizer.get_vocab().values()) == 295 > len(tokenizer) == 261
    return tokenizer


@pytest.mark.parametrize("to", ["bytes", "student", "itself"])
@pytest.mark.parametrize("n_rows", [300, 294])
def test_gaps_in_the_sources_vocabulary(to: str, n_rows: int, tmp_path) -> None:
    """Kept tokens have their own rows, and the one that the model has no row for is no kept one."""
    source = saved(tmp_path / "source", with_gaps(), vocab_size=n_rows, tie_word_embeddings=False)
    target = {"bytes": None, "student": STUDENT, "itself": source}[to]
    model, tokenizer, counts = moved(source, target, tmp_path / "model")
    old, _ = loaded(source)
    n_lost = int(n_rows == 294)
    assert counts["n_special"] == 4 - n_lost
    assert counts["n_fallback"] == n_lost
    assert sum(counts.values()) == 2 * counts["n_tokens"]
    if to != "student":
        assert counts["n_copied"] == 256 + (to == "itself")
    layers = [(each.get_input_embeddings(), each.get_output_embeddings()) for each in (model, old)]
    for ours, theirs in zip(*layers, strict=True):
        assert len(ours.weight) == model.config.vocab_size == len(tokenizer) == counts["n_tokens"]
        for token, row in {"<|pad|>": 290, "<|end|>": 291, "<|turn|>": 293}.items():
            found = ours.weight[tokenizer.convert_tokens_to_ids(token)]
            assert torch.equal(found, theirs.weight[row]), token
        last = ours.weight[tokenizer.convert_tokens_to_ids("<|tool|>")]
        assert torch.equal(last, theirs.weight[295]) if not n_lost else last.isfinite().all()
        if to == "itself":
            index = tokenizer.convert_tokens_to_ids("th")
            assert torch.equal(ours.weight[index], theirs.weight[270])
    assert model.config.eos_token_id == tokenizer.convert_tokens_to_ids("<|end|>")


def test_gaps_in_the_new_vocabulary_have_rows(tmp_path) -> None:
    """Unigram vocabularies may list a word twice; only the last of the two has an id."""
    layout = json.loads(small.unigram().backend_tokenizer.to_str())
    layout["model"]["vocab"].append(["ap", -2.0])
    target = with_tokenizer(
        tmp_path / "target",
        lambda: small.fast(
            Tokenizer.from_str(json.dumps(layout)), unk_token="<unk>", eos_token="</s>"
        ),
    )
    model, tokenizer, counts = moved(TEACHER, target, tmp_path / "model")
    size = max(tokenizer.get_vocab().values()) + 1
    assert size == len(tokenizer.get_vocab()) + 1
    assert len(model.get_input_embeddings().weight) == model.config.vocab_size == size
    assert len(model.get_output_embeddings().weight) == counts["n_tokens"] == size
    ids = tokenizer("ap and", return_tensors="pt")["input_ids"]
    assert model(ids).logits.shape[-1] == size
