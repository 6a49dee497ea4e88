"""What is trained with the chat templates that TRL ships as models published them.

Expectations are written by hand, for each family of templates. How TRL's own masks differ is in
docs/chat_templates.md, which is compared with what is found here.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from transformers import AutoTokenizer

from llm_distill.methods.chat_format import ChatFormat
from llm_distill.methods.turns import around
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import NO_LOSS, sft_examples
from scripts import chat_templates as published

Write = Callable[[str, str, list[dict[str, Any]]], str]
"""The thoughts, the answer and the calls (name and arguments) of a turn, as its text."""

NO_CALLS = "the chat template leaves out a call of a tool"
NO_TEXT = "the chat template leaves out the text beside a call of a tool"
TEXT_AFTER = "the chat template writes the text of a turn after its call"
PARTS = "the chat template takes content as a list of parts, not as text"
CALLS_ONLY = "the chat template writes thoughts before a call of a tool, not before an answer"
EMPTY = (
    "the chat template opens an answer after empty thoughts; set thoughts: drop, or a "
    "chat_template that lets the model think"
)
CALLS = ("call", "call with text", "two calls", "thoughts and call")
THOUGHTS = ("thoughts", "thoughts earlier", "thoughts in both")


def tagged(thought: str, answer: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{answer}" if thought else answer


def hermes(call: dict[str, Any]) -> str:
    given = json.dumps(call["arguments"])
    return f'<tool_call>\n{{"name": "{call["name"]}", "arguments": {given}}}\n</tool_call>'


def xml(call: dict[str, Any]) -> str:
    given = "".join(
        f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in call["arguments"].items()
    )
    return f"<tool_call>\n<function={call['name']}>\n{given}</function>\n</tool_call>"


def plain(end: str) -> Write:
    return lambda thought, answer, calls: tagged(thought, answer) + end


def qwen2_5(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    said = tagged(thought, answer)
    return "\n".join([*([said] if said else []), *map(hermes, calls)]) + "<|im_end|>"


def qwen3(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    said = "\n".join([*([answer] if answer else []), *map(hermes, calls)])
    return f"<think>\n{thought}\n</think>\n\n{said}<|im_end|>"


def qwen3_5_nothink(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    listed = "\n".join(map(xml, calls))
    return f"{answer}{chr(10) * 2 if answer and calls else ''}{listed}<|im_end|>"


def qwen3_5(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    return f"{thought}\n</think>\n\n{qwen3_5_nothink('', answer, calls)}"


def nemotron(after: str, closing: str) -> Write:
    """after: what stands after the thoughts. closing: before a call."""

    def write(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
        said = f"{thought}{after}{answer}" if thought else f"</think>{answer}"
        listed = "".join(f"{xml(call)}\n" for call in calls)
        return (f"{said.rstrip()}{closing}{listed}" if calls else said) + "<|im_end|>"

    return write


def lfm2(in_tags: Callable[[str, str], str]) -> Write:
    def write(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
        listed = [f"{c['name']}(city='{c['arguments']['city']}', days=2)" for c in calls]
        said = f"<|tool_call_start|>[{', '.join(listed)}]<|tool_call_end|>" if calls else ""
        return f"{in_tags(thought, answer)}{said}<|im_end|>"

    return write


def gemma_call(call: dict[str, Any]) -> str:
    city = call["arguments"]["city"]
    return f'<|tool_call>call:{call["name"]}{{city:<|"|>{city}<|"|>,days:2}}<tool_call|>'


def gemma4(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    before = f"<|channel>thought\n{thought}\n<channel|>" if thought else ""
    end = "<|tool_response>" if calls else "<turn|>"
    return before + answer + "".join(map(gemma_call, calls)) + end


def gemma4_v2(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    return tagged(thought, answer) + "".join(map(gemma_call, calls)) + "<turn|>"


def glm(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    said = f"\n<think>{thought}</think>" + (f"\n{answer}" if answer else "")
    for call in calls:
        given = "".join(
            f"<arg_key>{key}</arg_key>\n<arg_value>{value}</arg_value>\n"
            for key, value in call["arguments"].items()
        )
        said += f"\n<tool_call>{call['name']}\n{given}</tool_call>"
    return said + ("<|observation|>" if calls else "<|user|>")


def gptoss(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    """The text beside a call is a thought to it."""
    if calls:
        thought = thought or answer
    before = f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant"
    before = before if thought else ""
    if not calls:
        return f"{before}<|channel|>final<|message|>{answer}<|return|>"
    (call,) = calls
    to = f" to=functions.{call['name']}<|channel|>commentary json<|message|>"
    return f"{before}{to}{json.dumps(call['arguments'])}<|call|>"


def llama3_1(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    said = [json.dumps({"name": c["name"], "parameters": c["arguments"]}) for c in calls]
    return tagged(thought, answer) + "".join(said) + "<|eot_id|>"


def muse(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    said = [f" to=self<|message|>{thought}"] if thought else []
    for call in calls:
        given = "".join(
            f'<atem:parameter name="{key}">{value}</atem:parameter>\n'
            for key, value in call["arguments"].items()
        )
        inside = f'<atem:invoke name="{call["name"]}">\n{given}</atem:invoke>\n'
        wrapped = f"<atem:function_calls>\n{inside}</atem:function_calls>"
        said.append(f" to={call['name']}<|message|>{wrapped}")
    if answer:
        said.append(f" to=user<|message|>{answer}")
    return "<|eom|><|start|>assistant".join(said) + "<|eot|>"


def deepseek(thought: str, answer: str, calls: list[dict[str, Any]]) -> str:
    """The prompt opens a thought."""
    before = f"{thought}\n</think>" if thought else "</think>"
    return f"{before}\n\n{answer}<｜end▁of▁sentence｜>"


def refuse(kinds: tuple[str, ...], reason: str) -> dict[str, str]:
    return dict.fromkeys(kinds, reason)


OF_TEXT = ("call with text",)
NANO, ULTRA = nemotron("\n</think>\n", "\n"), nemotron("</think>", "\n")
AT_ONCE = {"two calls": "refused by the chat template: This model only supports single tool-calls "
           "at once!"}  # fmt: skip
NO_SYSTEM = {"system": "refused by the chat template: System role not supported"}
GEMMA4_BEFORE = refuse(OF_TEXT, TEXT_AFTER) | refuse(THOUGHTS, CALLS_ONLY)
VISION = refuse(tuple(published.KINDS), PARTS)
IN_TAGS = lfm2(tagged)
OWN_TAGS = lfm2(lambda thought, answer: f"<think>{thought}</think>{answer}" if thought else answer)

EXPECTED: dict[str, tuple[Write, dict[str, str]]] = {
    "cohere": (plain("<|END_OF_TURN_TOKEN|>"), refuse(CALLS, NO_CALLS)),
    "cohere2": (plain("<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"), refuse(CALLS, NO_CALLS)),
    "deepseek_r1_distill": (deepseek, refuse(CALLS, NO_CALLS)),
    "deepseekv3": (deepseek, refuse(CALLS, "the chat template leaves out the tools")),
    "diffusion_gemma": (gemma4, refuse(OF_TEXT, TEXT_AFTER)),
    "gemma": (plain("<end_of_turn>"), refuse(CALLS, NO_CALLS) | NO_SYSTEM),
    "gemma3": (plain("<end_of_turn>"), refuse(CALLS, NO_CALLS)),
    "gemma4": (gemma4, GEMMA4_BEFORE),
    "gemma4_v2": (gemma4_v2, refuse(OF_TEXT, TEXT_AFTER)),
    "gemma4_v3": (gemma4, GEMMA4_BEFORE),
    "gemma4_v4": (gemma4, GEMMA4_BEFORE),
    "gemma4_v5": (gemma4, refuse(OF_TEXT, TEXT_AFTER)),
    "glm4moe": (glm, {}),
    "gptoss": (gptoss, {"two calls": NO_CALLS}),
    "idefics3": (plain(""), VISION),
    "lfm2": (plain("<|im_end|>"), refuse(CALLS, NO_CALLS)),
    "lfm2_2_5": (OWN_TAGS, {}),
    "lfm2_2_5_v2": (OWN_TAGS, {}),
    "lfm2_2_5_vl": (OWN_TAGS, {}),
    "lfm2_v2": (IN_TAGS, {}),
    "llama3": (plain("<|eot_id|>"), refuse(CALLS, NO_CALLS)),
    "llama3_1": (llama3_1, refuse(OF_TEXT, NO_TEXT) | AT_ONCE),
    "llama3_2": (llama3_1, refuse(OF_TEXT, NO_TEXT) | AT_ONCE),
    "llava_next": (plain(""), VISION),
    "muse_glimmer": (muse, refuse(OF_TEXT, NO_TEXT)),
    "nemotron_3_5_lightning": (ULTRA, {}),
    "nemotron_3_nano": (NANO, {}),
    "nemotron_3_super": (NANO, {}),
    "nemotron_3_ultra": (ULTRA, {}),
    "phi3": (plain("<|end|>"), refuse(CALLS, NO_CALLS)),
    "phi3_5": (plain("<|end|>"), refuse(CALLS, NO_CALLS)),
    "qwen2_5": (qwen2_5, {}),
    "qwen2_5_vl": (plain("<|im_end|>"), refuse(CALLS, NO_CALLS)),
    "qwen3": (qwen3, {}),
    "qwen3_5_nothink": (qwen3_5_nothink, refuse((*THOUGHTS, "thoughts and call"), EMPTY)),
    "qwen3_5_think": (qwen3_5, {}),
    "qwen3_6": (qwen3_5, {}),
    "qwen3_8": (qwen3_5, {}),
    "qwen3_instruct_2507": (qwen2_5, {}),
    "qwen3_vl": (qwen2_5, {}),
    "smolvlm": (plain(""), VISION),
}


def expected(name: str, kind: str) -> list[str]:
    """What is trained, turn by turn."""
    write, _ = EXPECTED[name]
    found = []
    for message in published.KINDS[kind][0]:
        if message["role"] == "assistant":
            calls = [call["function"] for call in message.get("tool_calls") or ()]
            found.append(write(message.get("reasoning_content", ""), message["content"], calls))
    return found


@pytest.mark.parametrize("name", published.names())
def test_the_tokens_with_a_loss_are_the_turns_and_their_ends(name: str) -> None:
    _, refused = EXPECTED[name]
    for kind in published.KINDS:
        if kind in refused:
            with pytest.raises(UnusableRowError) as caught:
                published.ours(name, kind)
            assert str(caught.value) == refused[kind], kind
        else:
            assert [text for _, text in published.ours(name, kind)] == expected(name, kind), kind


def trained(name: str) -> list[str]:
    return [kind for kind in published.KINDS if kind not in EXPECTED[name][1]]


@pytest.mark.parametrize("name", [name for name in published.names() if trained(name)])
def test_a_tokenizer_that_merges_characters_trains_the_same_text(name: str) -> None:
    made: Any = AutoTokenizer.from_pretrained("data/models/tiny-teacher")
    bytes_ = published.encoder(name)
    made.add_special_tokens({"additional_special_tokens": published.special_tokens(name)})
    made.eos_token, made.bos_token = bytes_.tokenizer.eos_token, "<bos>"
    made.chat_template = published.template(name)
    ends = frozenset(made.convert_tokens_to_ids(list(published.ends(name))))
    assert bytes_.chat is not None
    coder = replace(
        bytes_, tokenizer=made, ends=ends, chat=ChatFormat(made, today=bytes_.chat.today)
    )
    for kind in trained(name):
        turns = coder.conversation(*published.KINDS[kind])
        assert [made.decode(tail) for _, tail, _ in turns] == expected(name, kind)


@pytest.mark.parametrize("name", [name for name in published.names() if trained(name)])
def test_what_stands_around_what_is_said_is_found_in_each_turn(name: str) -> None:
    coder = published.encoder(name)
    assert coder.chat is not None
    for kind in trained(name):
        messages, tools = published.KINDS[kind]
        for _, tail, turn in coder.conversation(messages, tools):
            lead, trail = around(coder.chat, turn, tools)
            message, text = turn.message, coder.tokenizer.decode(tail[:-1]).strip()
            for end in published.ends(name):
                trail = trail.partition(end)[0]
            assert text.startswith(lead.strip())
            assert text.endswith(trail.strip())
            said = text[len(lead.strip()) : len(text) - len(trail.strip())].strip()
            first = message.get("reasoning_content") or message["content"]
            assert said.startswith(first)
            assert message.get("tool_calls") or said.endswith(message["content"])


@pytest.mark.parametrize("name", ["cohere", "cohere2", "glm4moe", "llama3"])
def test_tokens_and_mask_are_those_of_trl(name: str) -> None:
    coder = published.encoder(name)
    for kind in ("one turn", "two turns", "system"):
        messages, _ = published.KINDS[kind]
        out = coder.tokenizer.apply_chat_template(
            messages,
            chat_template=published.training_template(name),
            return_assistant_tokens_mask=True,
            return_dict=True,
        )
        (example,) = sft_examples(coder.conversation(messages))
        assert out["input_ids"] == example["input_ids"]
        assert out["assistant_masks"] == [label != NO_LOSS for label in example["labels"]]


def test_calls_go_to_a_template_that_takes_arguments_as_text() -> None:
    coder = published.encoder("deepseekv3")
    messages, _ = published.KINDS["two calls"]
    call, answer = coder.conversation(messages)  # tools are in no prompt of this template
    begin, end = "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>"
    listed = "\n".join(
        f'{begin}function<｜tool▁sep｜>weather\n```json\n{{"city": "{city}", "days": 2}}\n```{end}'
        for city in ("Oslo", "Bergen")
    )
    wrapped = f"<｜tool▁calls▁begin｜>{listed}<｜tool▁calls▁end｜>"
    assert coder.tokenizer.decode(call[1]) == f"</think>\n\n{wrapped}<｜end▁of▁sentence｜>"
    assert coder.tokenizer.decode(answer[1]) == "It is warm.<｜end▁of▁sentence｜>"


def test_thoughts_that_a_template_has_no_place_for_can_be_dropped() -> None:
    for name, kind in (("qwen3_5_nothink", "thoughts"), ("gemma4", "thoughts")):
        coder = replace(published.encoder(name), thoughts="drop")
        ((_, tail, _),) = coder.conversation(*published.KINDS[kind])
        assert coder.tokenizer.decode(tail) == expected(name, "one turn")[0]


def test_the_page_is_what_the_script_writes() -> None:
    wrong = "docs/chat_templates.md is not what `make chat-templates` writes"
    assert published.page() == published.PAGE.read_text(encoding="utf-8"), wrong
