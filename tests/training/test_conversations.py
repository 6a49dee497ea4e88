"""What is trained is what the row says, for the chat templates that people train with."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from llm_distill.methods.chat_format import ChatFormat
from llm_distill.methods.turns import around, check_conversation
from llm_distill.rows.unusable import AlteredRowError, UnusableRowError
from llm_distill.training.data import NO_LOSS, sft_examples
from llm_distill.training.encoder import PairEncoder
from tests.training.chat_templates import CHATML, PHI, QWEN3, TEMPLATES, tokenizer

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "It is 4."}
MORE = {"role": "user", "content": "And 3 + 3?"}
SIX = {"role": "assistant", "content": "It is 6."}
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}},
    }
]
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {
            "id": "c1",
            "type": "function",
            "function": {"name": "weather", "arguments": {"city": "Oslo", "days": 2}},
        }
    ],
}
RESULT = {"role": "tool", "content": "18 degrees", "tool_call_id": "c1"}
THINKS = {**ANSWER, "reasoning_content": "Two and two make four."}

TALKS: dict[str, tuple[list[dict[str, Any]], list[Any]]] = {
    "single": ([ASK, ANSWER], []),
    "system": ([SYSTEM, ASK, ANSWER], []),
    "multi-turn": ([ASK, ANSWER, MORE, SIX], []),
    "tools": ([{**ASK, "content": "Weather?"}, CALL, RESULT, ANSWER], TOOLS),
    "reasoning": ([ASK, THINKS], []),
}
REFUSED = {
    **dict.fromkeys(
        itertools.product(
            ("chatml", "chatml generation", "phi", "gemma", "llama 2", "deepseek r1"), ("tools",)
        ),
        "the chat template leaves out a call of a tool",
    ),
    ("gemma", "system"): "refused by the chat template: System role not supported",
    ("llama 3", "tools"): "the chat template leaves out the tools",
}
CHANGES_ITS_TURNS = {("qwen 3", "multi-turn"), ("qwen 3", "tools"), ("deepseek r1", "multi-turn")}
TAGGED = {"chatml", "chatml generation", "llama 3", "llama 2", "gemma", "mistral", "phi"}
"""Templates that know nothing of thoughts: these are a part of the text."""


def encoder(name: str, **more: Any) -> PairEncoder:
    template, bos, eos, ends, _ = TEMPLATES[name]
    made = tokenizer(template, bos, eos)
    ids = frozenset(made.convert_tokens_to_ids(list(ends)))
    chat = ChatFormat(made, more.pop("fold", False), date(2031, 3, 5))
    return PairEncoder(made, ids, "chat", 10_000, chat, **more)


def runs(coder: PairEncoder, example: dict[str, list[int]]) -> list[tuple[str, bool]]:
    """The example's text, cut where the loss begins and ends."""
    pairs = zip(example["input_ids"], example["labels"], strict=True)
    for token, label in zip(example["input_ids"], example["labels"], strict=True):
        assert label in (NO_LOSS, token)
    return [
        (coder.tokenizer.decode([token for token, _ in group]), trained)
        for trained, group in itertools.groupby(pairs, lambda pair: pair[1] != NO_LOSS)
    ]


def joined(pieces: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """Neighbours that are both trained or both not as one, up to the last that is trained."""
    found = [
        ("".join(text for text, _ in group), trained)
        for trained, group in itertools.groupby(pieces, lambda piece: piece[1])
    ]
    while not found[-1][1]:
        found.pop()
    return found


@pytest.mark.parametrize("talk", TALKS)
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_tokens_with_a_loss_are_those_of_the_oracle(name: str, talk: str) -> None:
    coder, (messages, tools) = encoder(name), TALKS[talk]
    if (name, talk) in REFUSED:
        with pytest.raises(UnusableRowError, match=REFUSED[name, talk]):
            coder.conversation(messages, tools)
        return
    expected = TEMPLATES[name][-1]
    said = messages
    if talk == "reasoning" and name in TAGGED:
        tagged = f"<think>\n{THINKS['reasoning_content']}\n</think>\n\n{ANSWER['content']}"
        said = [ASK, {**ANSWER, "content": tagged}]
    *earlier, last = sft_examples(coder.conversation(messages, tools))
    found = runs(coder, last)
    whole = "".join(text for text, _ in joined(expected(said, tools)))
    assert "".join(text for text, _ in found) == whole
    trained = [text for text, is_trained in joined(expected(said, tools)) if is_trained]
    # A turn that the template renders in another way later is trained as it was when written.
    assert [text for text, is_trained in found if is_trained] == trained[len(earlier) :]
    assert len(earlier) == ((name, talk) in CHANGES_ITS_TURNS)
    first = next(i for i, message in enumerate(messages) if message["role"] == "assistant")
    for example in earlier:
        assert runs(coder, example) == joined(expected(messages[: 1 + first], tools))


@pytest.mark.parametrize("talk", ["single", "system", "multi-turn"])
def test_a_template_with_generation_marks_gives_the_same_tokens(talk: str) -> None:
    coder = encoder("chatml generation")
    messages, _ = TALKS[talk]
    marked = coder.tokenizer.apply_chat_template(
        messages, return_assistant_tokens_mask=True, return_dict=True
    )
    (example,) = sft_examples(coder.conversation(messages))
    n = len(example["input_ids"])
    assert marked["input_ids"][:n] == example["input_ids"]
    mask = [int(label != NO_LOSS) for label in example["labels"]]
    assert marked["assistant_masks"] == [*mask, *([0] * (len(marked["input_ids"]) - n))]


def test_a_weight_of_0_keeps_a_turn_out_of_the_loss() -> None:
    coder = encoder("chatml")
    (example,) = sft_examples(
        coder.conversation([ASK, {**ANSWER, "weight": 0.0}, MORE, {**SIX, "weight": 1.0}])
    )
    assert [text for text, trained in runs(coder, example) if trained] == ["It is 6.<|im_end|>"]
    (example,) = sft_examples(coder.conversation([ASK, ANSWER, MORE, {**SIX, "weight": 0.0}]))
    assert [text for text, trained in runs(coder, example) if trained] == ["It is 4.<|im_end|>"]
    with pytest.raises(UnusableRowError, match="no assistant turn that counts"):
        coder.conversation([ASK, {**ANSWER, "weight": 0.0}])


def test_the_last_answer_only() -> None:
    coder = encoder("chatml", answers="last")
    (example,) = sft_examples(coder.conversation([ASK, ANSWER, MORE, SIX]))
    assert [text for text, trained in runs(coder, example) if trained] == ["It is 6.<|im_end|>"]


def test_thoughts_are_trained_of_all_turns_of_the_last_or_of_none() -> None:
    talk = [ASK, THINKS, MORE, {**SIX, "reasoning_content": "Three and three."}]

    def thoughts(which: Any) -> list[bool]:
        examples = sft_examples(encoder("qwen 3", thoughts=which).conversation(talk))
        coder = encoder("qwen 3")
        trained = "".join(t for e in examples for t, is_trained in runs(coder, e) if is_trained)
        assert "It is 4." in trained
        assert "It is 6." in trained
        return ["make four" in trained, "Three and three" in trained]

    assert thoughts("train") == [True, True]
    assert thoughts("last") == [False, True]
    assert thoughts("drop") == [False, False]


def test_a_system_message_is_folded_on_demand() -> None:
    coder = encoder("gemma", fold=True)
    (example,) = sft_examples(coder.conversation([SYSTEM, ASK, ANSWER]))
    text = coder.tokenizer.decode(example["input_ids"])
    assert "<start_of_turn>user\nBe brief.\n\nWhat is 2 + 2?<end_of_turn>" in text


def test_a_template_that_loses_something_is_found_out() -> None:
    silent = CHATML.replace("m.content", "(m.content if m.role != 'system' else '')")
    shouts = CHATML.replace(
        "m.content", "(m.content | upper if m.role == 'assistant' else m.content)"
    )
    for template, reason in ((silent, "leaves out the system"), (shouts, "changes the answer")):
        coder = encoder("chatml")
        coder.tokenizer.chat_template = template
        with pytest.raises(AlteredRowError, match=reason):
            coder.conversation([SYSTEM, ASK, ANSWER])
    lost = QWEN3.replace("call.function.arguments | tojson", "'{}'")
    coder = encoder("qwen 3")
    coder.tokenizer.chat_template = lost
    with pytest.raises(AlteredRowError, match="leaves out a call"):
        coder.conversation([ASK, CALL], TOOLS)


def test_an_end_of_two_tokens_with_a_line_feed_between() -> None:
    coder = encoder("chatml")
    template = CHATML.replace("'<|im_end|>\\n'", "'<|im_end|>\\n</s>'")
    coder.tokenizer.chat_template = template
    ends = frozenset(coder.tokenizer.convert_tokens_to_ids(["<|im_end|>", "</s>"]))
    (example,) = sft_examples(replace(coder, ends=ends).conversation([ASK, ANSWER]))
    assert [text for text, trained in runs(coder, example) if trained] == ["It is 4.<|im_end|>"]


def test_a_character_without_a_token_is_found_out() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "</s>", "user", "assistant", "It", "is", "4", "."]
    made = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", unk_token="<unk>")
    coder = PairEncoder(fast, frozenset({1}), "text", 99)
    assert coder.encode("It is", "4 .")[1][-1] == 1
    with pytest.raises(AlteredRowError, match="the tokenizer changes the text"):
        coder.encode("It is", "5 .")


BAD: list[tuple[list[dict[str, Any]], str]] = [
    ([ASK], "no assistant turn"),
    ([{**ASK, "content": " "}, ANSWER], "empty prompt"),
    ([ASK, {**ANSWER, "content": " "}], "empty completion"),
    ([ASK, {**THINKS, "content": ""}], "thoughts without an answer"),
    ([ASK, RESULT, ANSWER], "a tool's result without its call"),
    ([ASK, ANSWER, RESULT, ANSWER], "a tool's result without its call"),
    (
        [ASK, {**CALL, "tool_calls": [{"function": {"name": "news", "arguments": {}}}]}],
        "a call of a tool that is not among the tools",
    ),
    (
        [ASK, {**CALL, "tool_calls": [{"function": {"name": "weather", "arguments": "{oops"}}]}],
        "arguments of a call that are not a JSON object",
    ),
    ([ASK, {**ANSWER, "content": "x" * 10_001}], "longer than max_length"),
]


@pytest.mark.parametrize(("messages", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_a_conversation_that_is_none_says_why(messages: list[Any], reason: str) -> None:
    with pytest.raises(UnusableRowError, match=f"^{reason}$"):
        encoder("qwen 3").conversation(messages, TOOLS)


def test_a_thought_that_stands_in_the_answer_too_is_trained() -> None:
    coder = encoder("chatml")
    (example,) = sft_examples(
        coder.conversation([ASK, {**ANSWER, "reasoning_content": "It is 4."}])
    )
    trained = [text for text, is_trained in runs(coder, example) if is_trained]
    assert trained == ["<think>\nIt is 4.\n</think>\n\nIt is 4.<|im_end|>"]


@pytest.mark.parametrize("name", ["chatml", "qwen 3", "deepseek r1"])
def test_what_stands_around_a_thought_and_its_answer(name: str) -> None:
    coder = encoder(name)
    ((_, _, turn),) = coder.conversation([ASK, THINKS])
    lead, trail = around(coder.chat or ChatFormat(coder.tokenizer), turn)
    assert lead == ("" if name == "deepseek r1" else "<think>\n")
    assert turn.body == f"{lead}{THINKS['reasoning_content']}\n</think>\n\nIt is 4.{trail}"


def test_calls_one_after_another_wait_for_all_their_results() -> None:
    check_conversation([ASK, CALL, CALL, RESULT, RESULT, ANSWER], TOOLS)
    with pytest.raises(UnusableRowError, match="without its call"):
        check_conversation([ASK, CALL, RESULT, RESULT, ANSWER], TOOLS)


def trained(template: str, messages: list[dict[str, Any]], name: str = "chatml") -> list[str]:
    coder = encoder(name)
    coder.tokenizer.chat_template = template
    return [coder.tokenizer.decode(tail) for _, tail, _ in coder.conversation(messages)]


CALLING = CHATML.replace("m.content", "(m.tool_calls | tojson if m.tool_calls else m.content)")
"""ChatML that writes the calls of a turn as their JSON."""


def test_a_prompt_with_empty_thoughts_is_answered_without_thoughts() -> None:
    template = CALLING.replace("assistant\\n", "assistant\\n<think>\\n\\n</think>\\n\\n")
    assert trained(template, [ASK, ANSWER, MORE, CALL]) == [
        "It is 4.<|im_end|>",
        f"{json.dumps(CALL['tool_calls'])}<|im_end|>",
    ]
    with pytest.raises(AlteredRowError, match="opens an answer after empty thoughts"):
        trained(template, [ASK, THINKS])


def test_thoughts_in_tags_before_calls_are_in_tags_before_answers_too() -> None:
    thoughts = "('<think>' + m.reasoning_content + '</think>' if m.reasoning_content else '')"
    template = CALLING.replace("m.tool_calls | tojson", f"{thoughts} + (m.tool_calls | tojson)")
    assert trained(template, [ASK, THINKS]) == [
        "<think>\nTwo and two make four.\n</think>\n\nIt is 4.<|im_end|>"
    ]
    template = template.replace("'<think>'", "'['").replace("'</think>'", "']'")
    with pytest.raises(AlteredRowError, match="thoughts before a call of a tool, not before an"):
        trained(template, [ASK, THINKS])


def test_a_turn_that_is_opened_in_another_way_than_it_is_written() -> None:
    template = PHI.replace("'<|assistant|>\\n' }}", "'<|user|>' }}")
    assert trained(template, [ASK, ANSWER], "phi") == ["It is 4.<|end|>"]
    as_user = CHATML.replace("'<|im_start|>assistant\\n'", "'<|im_start|>user\\n'")
    assert trained(as_user, [ASK, ANSWER]) == ["It is 4.<|im_end|>"]
    thinking = template.replace("m.content", "(m.reasoning_content or '') + m.content")
    with pytest.raises(AlteredRowError, match="opens a turn in another way"):
        trained(thinking, [ASK, THINKS], "phi")


def test_a_template_without_an_end_gets_the_tokenizers_own() -> None:
    template = "{%- for m in messages %}{{ m.role + ': ' + m.content + '\\n' }}{% endfor %}"
    template += "{%- if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    assert trained(template, [ASK, ANSWER]) == ["It is 4.<|im_end|>"]


def test_the_end_is_what_the_next_turn_begins_with() -> None:
    template = CHATML.replace(" + '<|im_end|>\\n'", "")
    coder = encoder("chatml")
    coder.tokenizer.chat_template = template
    ends = frozenset(coder.tokenizer.convert_tokens_to_ids(["</s>", "<|im_start|>"]))
    turns = replace(coder, ends=ends).conversation([ASK, ANSWER, MORE, SIX])
    assert [coder.tokenizer.decode(tail) for _, tail, _ in turns] == [
        "It is 4.<|im_start|>",
        "It is 6.<|im_start|>",
    ]
