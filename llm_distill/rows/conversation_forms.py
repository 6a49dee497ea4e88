"""Conversations of ours in the forms that `conversations` reads. Pure; one conversation at a time.

ours:     [{"role": "system", "content": "Add."}, {"role": "user", "content": "2 + 2?"},
           {"role": "assistant", "content": "4"}]
sharegpt: {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}],
           "system": "Add."}
alpaca:   {"instruction": "2 + 2?", "input": "", "output": "4", "history": [], "system": "Add."}
trl:      {"prompt": [the first two], "completion": [the last]}

What a form has no place for is taken out first, and counted (`held`), so that what is then written
can be compared with what is read again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message, json_text
from llm_distill.rows.unusable import UnusableRowError

Form = Literal["openai", "sharegpt", "alpaca", "trl"]

_FROM = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
_PLURALS = {
    "name": "names of speakers",
    "weight": "weights",
    "tool_call_id": "ids of the calls that a result is of",
    "tool_calls": "calls that are not the assistant's",
    "reasoning_content": "thoughts that are not the assistant's",
}


def held(turns: Sequence[Message], form: Form, lost: Counter[str]) -> list[Message]:
    """The turns without what the form has no place for.

    lost: counts, by what it is, the turns that have it.
    """
    if form in ("openai", "trl"):
        return list(turns)
    if form == "alpaca" and turns[0]["role"] == "system" and not turns[0]["content"].strip():
        lost["blank system messages"] += 1
        turns = turns[1:]
    return [_held_turn(turn, form, lost) for turn in turns]


def to_sharegpt(turns: Sequence[Message]) -> Row:
    """`conversations` and `system`, as LLaMA-Factory and axolotl read them.

    Calls are a `function_call`, several are a list in one. Those with a text beside them are in the
    text, in Hermes' tags. Thoughts come first, in `<think>` tags.
    """
    system = None
    if len(turns) > 1 and _is_plain_system(turns[0]) and turns[1]["role"] != "system":
        system, turns = turns[0]["content"], turns[1:]
    return {"conversations": [_sharegpt_turn(turn) for turn in turns], "system": system}


def to_alpaca(turns: Sequence[Message]) -> Row:
    """`instruction`, `input` (empty), `output`, `history` and `system`.

    Raises:
        UnusableRowError: it is not questions and answers in turn, ending with an answer.
    """
    system = None
    if turns and _is_plain_system(turns[0]):
        system, turns = turns[0]["content"], turns[1:]
    roles = [turn["role"] for turn in turns]
    if "tool" in roles or any("tool_calls" in turn for turn in turns):
        raise UnusableRowError("calls of tools")
    if "system" in roles:
        raise UnusableRowError("a system message after the first turn")
    if not roles or roles[-1] != "assistant":
        raise UnusableRowError("the last turn is not an answer")
    if roles != ["user", "assistant"] * (len(roles) // 2):
        raise UnusableRowError("questions and answers do not alternate")
    texts = [_thought(turn) + turn["content"] for turn in turns]
    *history, (asked, answered) = zip(texts[::2], texts[1::2], strict=True)
    return {
        "instruction": asked,
        "input": "",
        "output": answered,
        "history": [list(pair) for pair in history],
        "system": system,
    }


def to_prompt_and_completion(turns: Sequence[Message]) -> Row:
    """`prompt` and `completion` as TRL takes them: the answers at the end are the completion.

    Raises:
        UnusableRowError: it does not end with an answer, or nothing comes before that.
    """
    n_asked = len(turns)
    while n_asked and turns[n_asked - 1]["role"] == "assistant":
        n_asked -= 1
    if n_asked == len(turns):
        raise UnusableRowError("the last turn is not an answer")
    check_prompt(turns[:n_asked])
    return {"prompt": list(turns[:n_asked]), "completion": list(turns[n_asked:])}


def check_prompt(turns: Sequence[Message]) -> None:
    """Refuse a prompt that TRL does not render.

    Raises:
        UnusableRowError: it is empty, or ends with a system message.
    """
    if not turns or turns[-1]["role"] == "system":
        raise UnusableRowError("no question before the answer")


def _held_turn(turn: Message, form: Form, lost: Counter[str]) -> Message:
    kept = dict(turn)
    others = () if turn["role"] == "assistant" else ("tool_calls", "reasoning_content")
    nowhere = ("name", "weight", *others) if form == "alpaca" else others
    for key in nowhere:
        if kept.pop(key, None) is not None:
            lost[_PLURALS[key]] += 1
    if form == "alpaca" and turn["role"] != "tool" and kept.pop("tool_call_id", None) is not None:
        lost[_PLURALS["tool_call_id"]] += 1
    if kept.get("weight") not in (None, 0.0, 1.0):
        lost["weights other than 0 and 1"] += 1
        kept["weight"] = 1.0
    calls = kept.get("tool_calls")
    if (calls or "reasoning_content" in kept) and kept["content"] != kept["content"].strip():
        lost["white space around texts with thoughts or calls"] += 1
        kept["content"] = kept["content"].strip()
    if calls and kept["content"] and any("id" in call for call in calls):
        lost["ids of calls beside a text"] += 1
        kept["tool_calls"] = [{k: v for k, v in call.items() if k != "id"} for call in calls]
    return kept


def _is_plain_system(turn: Message) -> bool:
    """Whether a column of text can hold it."""
    has_more = turn.keys() != {"role", "content"}
    return turn["role"] == "system" and bool(turn["content"].strip()) and not has_more


def _sharegpt_turn(turn: Message) -> dict[str, Any]:
    said, value = _FROM[turn["role"]], turn["content"]
    calls = [_flat(call) for call in turn.get("tool_calls", ())]
    if calls and not value:
        said, value = "function_call", json_text(calls if len(calls) > 1 else calls[0])
    elif calls:
        tagged = (f"<tool_call>\n{json_text(call)}\n</tool_call>" for call in calls)
        value = "\n".join([value, *tagged])
    written = {"from": said, "value": _thought(turn) + value}
    if "weight" in turn:
        written["train"] = turn["weight"] != 0
    return written | {key: turn[key] for key in ("name", "tool_call_id") if key in turn}


def _thought(turn: Message) -> str:
    thought = turn.get("reasoning_content")
    return f"<think>\n{thought}\n</think>\n\n" if thought else ""


def _flat(call: dict[str, Any]) -> dict[str, Any]:
    function = call["function"]
    identity = {"id": call["id"]} if "id" in call else {}
    return {**identity, "name": function["name"], "arguments": function["arguments"]}
