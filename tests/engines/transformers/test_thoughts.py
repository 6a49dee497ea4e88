"""The budget of tokens for thoughts, against greedy decoding written out with plain passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Completion, Request, SamplingSettings
from llm_distill.engines.transformers import decoding
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.sampling import RowSampler
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.errors import ModelError
from llm_distill.models.sources import ModelSource, load_model, load_tokenizer
from llm_distill.rows.thoughts import split_thoughts
from tests.engines.conftest import TEMPLATE, save_model, save_tokenizer

THINKS = TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|><think>\n{% endif %}")
MOST = 24
ASKED = ("The fox?", "How many apples?", "The text", "dog", "0 1 2 3")
BUDGETS = (0, 5, 5, None, MOST - 1)

Source = Callable[..., ModelSource]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A random Llama whose template opens a thought; its tags are tokens, or several each."""
    made: dict[tuple[bool, str], ModelSource] = {}

    def run(are_tokens: bool = True, template: str = THINKS) -> ModelSource:
        if (are_tokens, template) not in made:
            path = tmp_path_factory.mktemp("thinks")
            tokenizer = save_tokenizer(path)
            tokenizer.add_tokens(["<think>", "</think>"] if are_tokens else [])
            tokenizer.chat_template = template
            tokenizer.save_pretrained(path)
            save_model(path, len(tokenizer))
            made[are_tokens, template] = ModelSource("tiny", str(path))
        return made[are_tokens, template]

    return run


def greedy(budget: int | None, **changes: Any) -> SamplingSettings:
    settings = {"temperature": 0, "max_tokens": MOST, "thinking_token_budget": budget, **changes}
    return SamplingSettings(**settings)


def engine_on(source: ModelSource, way: Any = None) -> TransformersEngine:
    engine = TransformersEngine(source, TransformersSettings(device="cpu"))
    if way is not None:
        engine.__dict__["_fitting_decode"] = way
    return engine


def ask(engine: TransformersEngine, *asked: tuple[str, SamplingSettings]) -> list[Completion]:
    requests = [
        Request(str(i), [{"role": "user", "content": text}], sampling, seed=i)
        for i, (text, sampling) in enumerate(asked)
    ]
    found = {done.id: done for done in engine.generate(requests)}
    return [found[request.id] for request in requests]


def written_out(source: ModelSource, question: str, budget: int | None) -> str:
    """The greedy text, token by token, with the tag put in after `budget` tokens."""
    model: Any = load_model(source)
    tokenizer: Any = load_tokenizer(source)
    said = [{"role": "user", "content": question}]
    prompt = tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True)
    tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    tag = tokenizer("</think>", add_special_tokens=False)["input_ids"]
    start, is_open = len(tokens), True
    while len(tokens) - start < MOST:
        if is_open and len(tokens) - start == budget:
            has_begun = len(tag) > 1 and tokenizer.decode(tokens[start:]).endswith("<")
            tokens += tag[1:] if has_begun else tag
            is_open = False
            continue
        with torch.inference_mode():
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == tokenizer.eos_token_id:
            break
        is_open = is_open and "</think>" not in tokenizer.decode(tokens[start:])
    text = tokenizer.decode(tokens[start : start + MOST], skip_special_tokens=True)
    return f"<think>{text}"


@pytest.mark.parametrize("are_tokens", [True, False])
@pytest.mark.parametrize(
    "way", [decoding.decode_in_steps, decoding.decode_by_generate, decoding.decode_alone]
)
def test_a_thought_is_closed_after_its_budget_and_an_answer_follows(
    source: Source, are_tokens: bool, way: Any
) -> None:
    model = source(are_tokens)
    asked = [(text, greedy(budget)) for text, budget in zip(ASKED, BUDGETS, strict=True)]
    found = ask(engine_on(model, way), *asked)
    for done, (text, sampling) in zip(found, asked, strict=True):
        assert done.text == written_out(model, text, sampling.thinking_token_budget)
        assert done.n_completion_tokens <= MOST
    assert [done.thought_cut for done in found[:4]] == [True, True, True, None]
    assert [split_thoughts(done.text)[1] != "" for done in found[:4]] == [True, True, True, False]
    alone = [ask(engine_on(model, way), one)[0] for one in asked]
    assert [done.text for done in alone] == [done.text for done in found]


def test_without_a_thought_nothing_changes(source: Source) -> None:
    model = source(template=TEMPLATE)
    for changes in ({}, {"temperature": 1.0, "top_k": 20}):
        plain = ask(engine_on(model), *[(text, greedy(None, **changes)) for text in ASKED])
        held = ask(engine_on(model), *[(text, greedy(3, **changes)) for text in ASKED])
        assert [replace(done, thought_cut=None) for done in held] == plain
        assert {done.thought_cut for done in held} == {False}


def test_a_drawn_thought_is_the_same_up_to_its_end(source: Source) -> None:
    drawn = {"temperature": 1.0}
    free = ask(engine_on(source()), *[(text, greedy(None, **drawn)) for text in ASKED])
    held = ask(engine_on(source()), *[(text, greedy(6, **drawn)) for text in ASKED])
    for long, short in zip(free, held, strict=True):
        thought = short.text.partition("</think>")[0]
        assert short.thought_cut is (len(long.text) > len(thought))
        assert long.text.startswith(thought)


@pytest.fixture
def dictate(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModelSource, str], None]:
    """Has a model draw the tokens of a text, and then its end token."""

    def run(model: ModelSource, text: str) -> None:
        tokenizer: Any = load_tokenizer(model)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids += [tokenizer.eos_token_id] * MOST

        def draw(self: Any, logits: torch.Tensor, rows: torch.Tensor, step: int) -> torch.Tensor:
            return torch.full((len(rows),), ids[step])

        monkeypatch.setattr(RowSampler, "draw", draw)

    return run


@pytest.mark.parametrize("are_tokens", [True, False])
@pytest.mark.parametrize(
    ("said", "budget", "text", "is_cut"),
    [
        # What the model opens itself counts as well, wherever it does.
        ("<think>0123", 2, "<think>01</think>", True),
        ("0<think>0 1</think>2 3", 9, "0<think>0 1</think>2 3", False),
        # Closed by the model itself, with the last of its budget.
        ("<think>01</think>2", 2, "<think>01</think>2", False),
        # The thoughts of an answer have one budget together.
        ("<think>01</think>2<think>34567", 4, "<think>01</think>2<think>34</think>", True),
        ("0 1 2 3 > <b> </think> 4", 2, "0 1 2 3 > <b> </think> 4", False),
        ("<Thinking>0123", 2, "<Thinking>01</Thinking>", True),
    ],
)
def test_a_thought_that_the_model_opens(
    source: Source, dictate: Any, are_tokens: bool, said: str, budget: int, text: str, is_cut: bool
) -> None:
    model = source(are_tokens, template=TEMPLATE)
    dictate(model, said)
    (done,) = ask(engine_on(model), ("The", greedy(budget, max_tokens=60)))
    assert done.text.startswith(text)
    assert done.text.count("</") == text.count("</")
    assert done.thought_cut is is_cut


def test_a_tag_that_the_model_has_begun_is_ended(source: Source, dictate: Any) -> None:
    model = source(False, template=TEMPLATE)
    dictate(model, "<think>01</thi")
    tokenizer: Any = load_tokenizer(model)
    budget = len(tokenizer("01</thi", add_special_tokens=False)["input_ids"])
    (done,) = ask(engine_on(model), ("The", greedy(budget, max_tokens=60)))
    assert done.text == "<think>01</think>"


def test_a_tokenizer_that_cannot_write_the_tag_is_said(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_on(source())
    own = engine._tokenizer

    class Blind:
        def __call__(self, text: str, **options: Any) -> Any:
            return {"input_ids": [0]} if "think" in text else own(text, **options)

        def __getattr__(self, name: str) -> Any:
            return getattr(own, name)

        def __len__(self) -> int:
            return len(own)

    monkeypatch.setattr(engine, "_tokenizer", Blind())
    with pytest.raises(
        ModelError, match="'tiny': its tokenizer cannot write </think>, so thinking"
    ):
        ask(engine, ("The", greedy(3)))


@pytest.mark.parametrize("budget", [-1, MOST, MOST + 9, 1.5, "much"])
def test_a_budget_that_cannot_be(budget: Any) -> None:
    with pytest.raises(ValueError, match="thinking_token_budget"):
        greedy(budget)
