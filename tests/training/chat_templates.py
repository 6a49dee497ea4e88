"""Chat templates that behave as those of published models do, and what each should render.

Templates and expectations are written apart: an expectation is built with plain Python.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

Message = dict[str, Any]
Piece = tuple[str, bool]
"""A text, and whether it is trained."""

SPECIAL = [
    *("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<bos>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>"),
]

CHATML = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

CHATML_GENERATION = """\
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == 'assistant' %}
{%- generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}{% else %}
{{- m.content + '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

LLAMA3 = """\
{{- '<|begin_of_text|>' }}{% set date = strftime_now('%d %b %Y') %}
{%- set first = messages[0].content if messages[0].role == 'system' else '' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + date + '\\n\\n' + first + '<|eot_id|>' }}
{%- for m in messages if m.role != 'system' %}
{{- '<|start_header_id|>' + ('ipython' if m.role == 'tool' else m.role) + '<|end_header_id|>\\n\\n' }}
{%- if m.tool_calls %}{{ {'name': m.tool_calls[0].function.name, 'parameters': m.tool_calls[0].function.arguments} | tojson }}
{%- else %}{{ m.content | trim }}{% endif %}{{ '<|eot_id|>' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""

LLAMA2 = """\
{%- if messages[0].role == 'system' %}{% set system = '<<SYS>>\\n' + messages[0].content + '\\n<</SYS>>\\n\\n' %}
{%- set turns = messages[1:] %}{% else %}{% set system = '' %}{% set turns = messages %}{% endif %}
{%- for m in turns %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}
{%- if m.role == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + m.content | trim + ' [/INST]' }}
{%- else %}{{ ' ' + m.content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"""

GEMMA = """\
{{- bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + m.content | trim + '<end_of_turn>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

QWEN3 = """\
{%- if tools or messages[0].role == 'system' %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content }}{% endif %}
{%- if tools %}{{ '\\n\\n# Tools\\n' }}{% for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}{% endif %}
{{- '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(last=-1) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in messages if m.role != 'system' %}{% set index = loop.index0 + (1 if messages[0].role == 'system' else 0) %}
{%- if m.role == 'tool' %}{{ '<|im_start|>user\\n<tool_response>\\n' + m.content + '\\n</tool_response><|im_end|>\\n' }}
{%- elif m.role == 'user' %}{{ '<|im_start|>user\\n' + m.content + '<|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>assistant\\n' }}
{%- if index > ns.last and (index == messages | length - 1 or m.reasoning_content) %}
{{- '<think>\\n' + (m.reasoning_content or '') | trim + '\\n</think>\\n\\n' }}{% endif %}{{ m.content }}
{%- for call in m.tool_calls or [] %}{{ ('\\n' if m.content or not loop.first else '') + '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson + '}\\n</tool_call>' }}{% endfor %}
{{- '<|im_end|>\\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

MISTRAL = """\
{%- if messages[0].role == 'system' %}{% set system = messages[0].content + '\\n\\n' %}{% set turns = messages[1:] %}
{%- else %}{% set system = '' %}{% set turns = messages %}{% endif %}{{ bos_token }}
{%- set ns = namespace(last=0) %}{% for m in turns %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}
{%- for m in turns %}{% if m.role == 'user' %}
{%- if tools and loop.index0 == ns.last %}{{ '[AVAILABLE_TOOLS]' + tools | tojson + '[/AVAILABLE_TOOLS]' }}{% endif %}
{{- '[INST]' + (system if loop.index0 == ns.last else '') + m.content + '[/INST]' }}
{%- elif m.role == 'tool' %}{{ '[TOOL_RESULTS]{"content": ' + m.content | tojson + '}[/TOOL_RESULTS]' }}
{%- elif m.tool_calls %}{{ '[TOOL_CALLS][' }}{% for call in m.tool_calls %}{{ {'name': call.function.name, 'arguments': call.function.arguments} | tojson }}{% endfor %}{{ ']' + eos_token }}
{%- else %}{{ m.content | trim + eos_token }}{% endif %}{% endfor %}"""

DEEPSEEK_R1 = """\
{{- bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}
{%- elif m.role == 'user' %}{{ '<|user|>' + m.content }}
{%- else %}{{ '<|assistant|>' + m.content.split('</think>')[-1] + eos_token }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|><think>\\n' }}{% endif %}"""

PHI = """\
{%- for m in messages %}{{ '<|' + m.role + '|>\\n' + m.content + '<|end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""


def tokenizer(template: str, bos: str, eos: str) -> PreTrainedTokenizerFast:
    """One token a byte, and one for each special text."""
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token=bos, eos_token=eos, pad_token="<pad>"
    )
    fast.chat_template = template
    return fast


def split_system(messages: list[Message]) -> tuple[str, list[Message]]:
    if messages[0]["role"] == "system":
        return messages[0]["content"], messages[1:]
    return "", messages


def calls_of(message: Message) -> list[tuple[str, dict[str, Any]]]:
    calls = message.get("tool_calls") or []
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def chatml(messages: list[Message], tools: list[Any]) -> list[Piece]:
    pieces = []
    for m in messages:
        trained = m["role"] == "assistant"
        pieces += [(f"<|im_start|>{m['role']}\n", False), (f"{m['content']}<|im_end|>", trained)]
        pieces.append(("\n", False))
    return pieces


def llama3(messages: list[Message], tools: list[Any]) -> list[Piece]:
    system, turns = split_system(messages)
    head = "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
    pieces = [(f"{head}Today Date: 05 Mar 2031\n\n{system}<|eot_id|>", False)]
    for m in turns:
        role = "ipython" if m["role"] == "tool" else m["role"]
        pieces.append((f"<|start_header_id|>{role}<|end_header_id|>\n\n", False))
        text = m["content"]
        for name, arguments in calls_of(m):
            text = json.dumps({"name": name, "parameters": arguments})
        pieces.append((f"{text}<|eot_id|>", m["role"] == "assistant"))
    return pieces


def llama2(messages: list[Message], tools: list[Any]) -> list[Piece]:
    system, turns = split_system(messages)
    shown = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    pieces = []
    for index, m in enumerate(turns):
        if m["role"] == "user":
            pieces.append((f"<s>[INST] {shown if index == 0 else ''}{m['content']} [/INST]", False))
        else:
            pieces.append((f" {m['content']} </s>", True))
    return pieces


def gemma(messages: list[Message], tools: list[Any]) -> list[Piece]:
    pieces = [("<bos>", False)]
    for m in messages:
        role = "model" if m["role"] == "assistant" else "user"
        pieces.append((f"<start_of_turn>{role}\n", False))
        pieces.append((f"{m['content']}<end_of_turn>", m["role"] == "assistant"))
        pieces.append(("\n", False))
    return pieces


def qwen3(messages: list[Message], tools: list[Any]) -> list[Piece]:
    """Of the last turn: earlier ones lose their thoughts."""
    system, turns = split_system(messages)
    pieces = []
    if system or tools:
        shown = "".join(f"{json.dumps(tool)}\n" for tool in tools)
        listed = f"\n\n# Tools\n{shown}" if tools else ""
        pieces.append((f"<|im_start|>system\n{system}{listed}<|im_end|>\n", False))
    last = max(i for i, m in enumerate(turns) if m["role"] == "user")
    for index, m in enumerate(turns):
        if m["role"] == "user":
            pieces.append((f"<|im_start|>user\n{m['content']}<|im_end|>\n", False))
            continue
        if m["role"] == "tool":
            shown = f"<tool_response>\n{m['content']}\n</tool_response>"
            pieces.append((f"<|im_start|>user\n{shown}<|im_end|>\n", False))
            continue
        thought, text = m.get("reasoning_content") or "", m["content"]
        if index > last and (thought or index == len(turns) - 1):
            text = f"<think>\n{thought}\n</think>\n\n{text}"
        for name, arguments in calls_of(m):
            written = f'{{"name": "{name}", "arguments": {json.dumps(arguments)}}}'
            text += ("\n" if m["content"] else "") + f"<tool_call>\n{written}\n</tool_call>"
        pieces += [("<|im_start|>assistant\n", False), (f"{text}<|im_end|>", True), ("\n", False)]
    return pieces


def mistral(messages: list[Message], tools: list[Any]) -> list[Piece]:
    system, turns = split_system(messages)
    last = max(i for i, m in enumerate(turns) if m["role"] == "user")
    pieces = [("<s>", False)]
    for index, m in enumerate(turns):
        if m["role"] == "user":
            shown = f"[AVAILABLE_TOOLS]{json.dumps(tools)}[/AVAILABLE_TOOLS]"
            here = index == last
            start = f"{shown if tools and here else ''}[INST]"
            first = f"{system}\n\n" if system and here else ""
            pieces.append((f"{start}{first}{m['content']}[/INST]", False))
        elif m["role"] == "tool":
            content = json.dumps(m["content"])
            pieces.append((f'[TOOL_RESULTS]{{"content": {content}}}[/TOOL_RESULTS]', False))
        elif calls_of(m):
            calls = [{"name": n, "arguments": a} for n, a in calls_of(m)]
            pieces.append((f"[TOOL_CALLS]{json.dumps(calls)}</s>", True))
        else:
            pieces.append((f"{m['content']}</s>", True))
    return pieces


def deepseek_r1(messages: list[Message], tools: list[Any]) -> list[Piece]:
    """Of the last turn: the prompt opens its thought, and earlier turns have none."""
    system, turns = split_system(messages)
    pieces = [(f"<s>{system}", False)]
    for index, m in enumerate(turns):
        if m["role"] == "user":
            pieces.append((f"<|user|>{m['content']}", False))
        elif index < len(turns) - 1:
            pieces += [("<|assistant|>", False), (f"{m['content']}</s>", True)]
        else:
            thought = f"{m['reasoning_content']}\n" if m.get("reasoning_content") else ""
            pieces.append(("<|assistant|><think>\n", False))
            pieces.append((f"{thought}</think>\n\n{m['content']}</s>", True))
    return pieces


def phi(messages: list[Message], tools: list[Any]) -> list[Piece]:
    pieces = []
    for m in messages:
        pieces += [(f"<|{m['role']}|>\n", False)]
        pieces += [(f"{m['content']}<|end|>", m["role"] == "assistant"), ("\n", False)]
    return pieces


Expected = Callable[[list[Message], list[Any]], list[Piece]]
TEMPLATES: dict[str, tuple[str, str, str, tuple[str, ...], Expected]] = {
    "chatml": (CHATML, "<s>", "<|im_end|>", ("<|im_end|>",), chatml),
    "chatml generation": (CHATML_GENERATION, "<s>", "<|im_end|>", ("<|im_end|>",), chatml),
    "llama 3": (LLAMA3, "<|begin_of_text|>", "<|eot_id|>", ("<|eot_id|>",), llama3),
    "llama 2": (LLAMA2, "<s>", "</s>", ("</s>",), llama2),
    "gemma": (GEMMA, "<bos>", "</s>", ("</s>", "<end_of_turn>"), gemma),
    "qwen 3": (QWEN3, "<s>", "<|im_end|>", ("<|im_end|>",), qwen3),
    "mistral": (MISTRAL, "<s>", "</s>", ("</s>",), mistral),
    "deepseek r1": (DEEPSEEK_R1, "<s>", "</s>", ("</s>",), deepseek_r1),
    "phi": (PHI, "<s>", "</s>", ("</s>", "<|end|>"), phi),
}
"""By name: the template, its first and its end token, all tokens that end an answer, and what it
should render."""
