"""Rewards of all steps in one pass, against a pass for each step over the answer up to it."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from llm_distill.engines.process_reward.format import (
    MARK,
    NextToken,
    RewardFormat,
    TokenClassification,
    conversation,
    plain_text,
)
from llm_distill.engines.process_reward.scoring import ProcessRewardModel, Rewards
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from tests.engines.process_reward.conftest import QWEN_TEMPLATE, SEPARATOR, tensors_of

Build = Callable[..., ModelSource]

ANSWERS = [
    ("A farmer has twelve apples?", ["Five are given away.", "12 - 5 = 7.", "<ans>7</ans>"]),
    ("0 1 2?", ["3"]),
    ("The quick brown fox?", ["It jumps over the lazy dog; + and - and =.", "On and on."] * 3),
    ("ö?", ["Zwölf +", "- -"]),
    ("  The text?  ", ["goes on ", " until it ends?!", "and on"]),
]
QWEN = TokenClassification(SEPARATOR, "Think.")
TRL = TokenClassification("\n")


def rewards(
    source: ModelSource, form: RewardFormat, answers: Sequence[Any] = ANSWERS, batch_size: int = 8
) -> list[Rewards]:
    return ProcessRewardModel(source, form, batch_size, "cpu").score(answers)


def assert_close(found: list[Rewards], expected: list[list[float]]) -> None:
    assert [reward.error for reward in found] == [None] * len(expected)
    for reward, wanted in zip(found, expected, strict=True):
        assert reward.steps == pytest.approx(wanted, abs=1e-5)
    assert len({round(s, 4) for reward in found for s in reward.steps}) > 8  # they tell apart


def next_token_by_step(source: ModelSource, as_text: Callable[..., str]) -> list[list[float]]:
    """What the model writes after each step, by a pass over the text before it alone."""
    model, tokenizer = load_model(source), load_tokenizer(source)
    pair = [tokenizer.convert_tokens_to_ids(word) for word in "-+"]
    found: list[list[float]] = []
    for question, steps in ANSWERS:
        found.append([])
        for k in range(len(steps)):
            text = as_text(tokenizer, question, steps[: k + 1])
            ids = tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]
            with torch.inference_mode():
                logits = model(torch.tensor([ids])).logits[0, -1, pair].float()
            found[-1].append(float(logits.softmax(-1)[1]))
    return found


def chat_prefix(tokenizer: Any, question: str, steps: list[str]) -> str:
    turns = conversation(question, steps)[:-1]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return text


def text_prefix(tokenizer: Any, question: str, steps: list[str]) -> str:
    return plain_text(question, steps).rpartition("+")[0]


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_next_token_as_chat(next_token: Build, batch_size: int) -> None:
    source = next_token()
    found = rewards(source, NextToken(), batch_size=batch_size)
    assert_close(found, next_token_by_step(source, chat_prefix))


def test_next_token_as_text(next_token: Build) -> None:
    source = next_token("text")
    assert_close(rewards(source, NextToken()), next_token_by_step(source, text_prefix))


def test_a_model_that_caps_its_logits(next_token: Build, tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    tokenizer = load_tokenizer(next_token())
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, sliding_window=16,
        final_logit_softcapping=0.5, initializer_range=0.5, query_pre_attn_scalar=16,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    source = ModelSource("reward", str(tmp_path))
    assert_close(rewards(source, NextToken()), next_token_by_step(source, chat_prefix))


class ReferenceHead(nn.Module):
    """Qwen2.5-Math-PRM's head, as its card describes it."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 2))
        self.load_state_dict({k: v for k, v in tensors.items() if k.startswith("score.")})


@pytest.mark.parametrize("batch_size", [1, 3])
def test_two_layer_head_as_qwen(qwen_prm: ModelSource, batch_size: int) -> None:
    """Its own code is not run: the checkpoint names a module that would end the process."""
    from transformers import AutoConfig, Qwen2Model

    tensors = tensors_of(qwen_prm)
    base = Qwen2Model(AutoConfig.from_pretrained(qwen_prm.path)).eval()
    base.load_state_dict(
        {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}
    )
    head, tokenizer = ReferenceHead(tensors), load_tokenizer(qwen_prm)
    separator = tokenizer.convert_tokens_to_ids(SEPARATOR)
    expected: list[list[float]] = []
    for question, steps in ANSWERS:
        expected.append([])
        for k in range(len(steps)):
            answer = "".join(step + SEPARATOR for step in steps[: k + 1])
            messages = [("system", "Think."), ("user", question), ("assistant", answer)]
            ids = tokenizer.apply_chat_template(
                [{"role": role, "content": text} for role, text in messages], return_dict=False
            )
            last = max(i for i, token in enumerate(ids) if token == separator)
            with torch.inference_mode():
                states = base(torch.tensor([ids])).last_hidden_state[0, last]
                expected[-1].append(float(head.score(states).softmax(-1)[1]))
    assert_close(rewards(qwen_prm, QWEN, batch_size=batch_size), expected)
    assert rewards(qwen_prm, TokenClassification(SEPARATOR))[0] != expected[0]


def test_one_layer_head_as_trl(trl_prm: ModelSource) -> None:
    from transformers import AutoModelForTokenClassification

    model = AutoModelForTokenClassification.from_pretrained(trl_prm.path).eval()
    tokenizer = load_tokenizer(trl_prm)

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    expected: list[list[float]] = []
    for question, steps in ANSWERS:
        expected.append([])
        tokens = [tokenizer.bos_token_id, *ids(question)]
        for step in steps:
            tokens += ids(step) + ids("\n")
            with torch.inference_mode():
                logits = model(torch.tensor([tokens])).logits[0, -1]
            expected[-1].append(float(logits.softmax(-1)[1]))
    assert_close(rewards(trl_prm, TRL), expected)


def test_neither_batch_nor_order_changes_a_reward(next_token: Build) -> None:
    source = next_token()
    answers = [(q + "!" * i, steps) for i in range(4) for q, steps in ANSWERS]
    alone = rewards(source, NextToken(), answers, 1)
    order = random.Random(1).sample(range(len(answers)), len(answers))
    together = rewards(source, NextToken(), [answers[i] for i in order], 7)
    for place, index in enumerate(order):
        assert together[place].steps == pytest.approx(alone[index].steps, abs=1e-5)


def test_an_answer_is_read_once(next_token: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = ProcessRewardModel(next_token(), NextToken(), 2, "cpu")
    shapes: list[tuple[int, ...]] = []
    widths: list[int] = []
    judge = model._judge

    def watched(ids: Any, rows: Any, places: Any) -> Any:
        shapes.append(tuple(ids.shape))
        logits = judge(ids, rows, places)
        widths.append(logits.shape[-1])
        return logits

    monkeypatch.setattr(model, "_judge", watched)
    counts: list[int] = []
    model.score(ANSWERS, counts.append)
    assert [rows for rows, _ in shapes] == [2, 2, 1]
    assert shapes == sorted(shapes, key=lambda shape: -shape[1])  # the longest first
    assert set(widths) == {2}  # no tensor of a vocabulary's size
    assert sum(counts) == len(ANSWERS)


def test_an_answer_that_cannot_be_scored_is_a_bad_row(
    next_token: Build, trl_prm: ModelSource
) -> None:
    source = next_token()
    answers = [("The?", ["word " * 600]), ANSWERS[0], ("The?", [f"a{MARK}"]), ("The?", ["fox"])]
    found = rewards(source, NextToken(), answers)
    assert "has a context of 512" in str(found[0].error)
    assert "marks places" in str(found[2].error)
    assert [found[1].error, found[3].error] == [None, None]
    assert found[1].steps == pytest.approx(rewards(source, NextToken(), [ANSWERS[0]])[0].steps)
    (held,) = rewards(trl_prm, TRL, [("The?", ["fine", "one\ntwo"])])
    assert "step 2 holds the separator '\\n' itself" in str(held.error)
    assert held.steps == ()


@pytest.mark.parametrize("good", ["excellent", "+-+-+"])
def test_a_verdict_must_be_one_token(next_token: Build, good: str) -> None:
    with pytest.raises(ModelError, match="'reward' has no single token for"):
        rewards(next_token(), NextToken(good, "-"))


@pytest.mark.parametrize("good", ["✓", "对"])
def test_a_letter_of_several_tokens_is_no_verdict(next_token: Build, good: str) -> None:
    """Each of a letter's tokens has the span of the whole letter."""
    with pytest.raises(ModelError, match="'reward' has no single token for"):
        ProcessRewardModel(next_token(), NextToken(good, "-"), 2)


def test_a_separator_must_be_one_token_in_a_chat(next_token: Build) -> None:
    with pytest.raises(ModelError, match="no single token for '<extra_0>'.*set separator"):
        rewards(next_token(), TokenClassification(SEPARATOR))


@pytest.mark.parametrize("kind", ["next token", "classification"])
def test_a_token_without_a_row_is_said(
    next_token: Build, trl_prm: ModelSource, tmp_path: Path, kind: str
) -> None:
    source, form = (next_token(), NextToken()) if kind == "next token" else (trl_prm, TRL)
    path = tmp_path / "more"
    shutil.copytree(source.path, path)
    tokenizer: Any = load_tokenizer(source)
    tokenizer.add_tokens(["<tool>"])
    tokenizer.save_pretrained(path)
    source = replace(source, path=str(path))
    assert rewards(source, form, [("How old?", ["One.", "Two."])])[0].error is None
    with pytest.raises(
        ModelError, match=r"'reward': token \d+ of the answer to '<tool> How old\?'"
    ):
        rewards(source, form, [("<tool> How old?", ["One.", "Two."])])


def test_a_verdict_without_a_row_is_said(next_token: Build, tmp_path: Path) -> None:
    path = tmp_path / "more"
    shutil.copytree(next_token().path, path)
    tokenizer: Any = load_tokenizer(next_token())
    tokenizer.add_tokens(["<good>"])
    tokenizer.save_pretrained(path)
    with pytest.raises(ModelError, match=r"'reward': token \d+ of the verdicts is not among"):
        rewards(ModelSource("reward", str(path)), NextToken("<good>", "-"))


def test_wrong_kind_of_model(next_token: Build, trl_prm: ModelSource) -> None:
    with pytest.raises(ModelError, match=r"no head that scores steps.*found no score\.\*"):
        rewards(next_token("text"), TRL)
    with pytest.raises(ModelError, match=r"no weights for lm_head\.weight"):
        rewards(trl_prm, NextToken())
    adapted = replace(trl_prm, adapters=("somewhere",))
    with pytest.raises(ModelError, match="is an adapter"):
        rewards(adapted, TRL)


def test_a_head_of_other_labels(trl_prm: ModelSource, tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForTokenClassification

    config = AutoConfig.from_pretrained(trl_prm.path, num_labels=3)
    LlamaForTokenClassification(config).save_pretrained(tmp_path)
    load_tokenizer(trl_prm).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="from 32 numbers to 3 labels; from 32 to 2"):
        rewards(replace(trl_prm, path=str(tmp_path)), TRL)


def test_a_model_that_reads_in_both_directions_is_refused(
    trl_prm: ModelSource, tmp_path: Path
) -> None:
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = BertConfig(vocab_size=400, num_attention_heads=2, initializer_range=0.5, **size)
    config.save_pretrained(tmp_path)
    tensors = BertModel(config).state_dict()
    tensors |= {"score.weight": torch.randn(2, 32)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_tokenizer(trl_prm).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="in both directions"):
        rewards(replace(trl_prm, path=str(tmp_path)), TRL)


def test_a_template_that_does_not_show_the_steps(next_token: Build, tmp_path: Path) -> None:
    source = next_token()
    load_model(source).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(source)
    for template, message in [
        ("{{ messages[0].content }}", "shows 0 of 2 steps"),
        ("{{ raise_exception('no') }}", "refuses a reward model's messages: no"),
        (QWEN_TEMPLATE, None),
    ]:
        tokenizer.chat_template = template
        tokenizer.save_pretrained(tmp_path)
        there = replace(source, path=str(tmp_path))
        if message is None:
            assert rewards(there, NextToken())[0].error is None
            continue
        with pytest.raises(ModelError, match=message):
            rewards(there, NextToken())


def test_nan_is_no_reward(next_token: Build) -> None:
    model = ProcessRewardModel(next_token(), NextToken(), 2, "cpu")
    model._judge = lambda ids, rows, places: torch.full((len(rows), 2), torch.nan)
    with pytest.raises(ModelError, match="computes NaN"):
        model.score(ANSWERS)


def test_out_of_memory_says_what_to_do(next_token: Build) -> None:
    model = ProcessRewardModel(next_token(), NextToken(), 2, "cpu")

    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("full")

    model._judge = full
    with pytest.raises(ModelError, match=r"2 answers of up to \d+ tokens; lower batch_size"):
        model.score(ANSWERS)
