"""How conversations are trained on published chat templates: writes docs/chat_templates.md.

    python -m scripts.chat_templates

The templates are those that TRL ships, as models published them. Each is tried with conversations
of several kinds. What is trained is compared, turn by turn and token by token, with the loss mask
of TRL's own version of the template for training, where it has one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import trl
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from llm_distill.methods.chat_format import ChatFormat
from llm_distill.rows.messages import REASONING, Message
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.data import NO_LOSS, sft_examples
from llm_distill.training.encoder import PairEncoder

FOLDER = Path(trl.__file__).parent / "chat_templates"
PAGE = Path(__file__).parents[1] / "docs" / "chat_templates.md"

ENDS: dict[str, tuple[str, ...]] = {
    "cohere": ("<|END_OF_TURN_TOKEN|>",),
    "deepseek": ("<｜end▁of▁sentence｜>",),
    "diffusion_gemma": ("<eos>", "<turn|>", "<|tool_response>"),
    "gemma4": ("<eos>", "<turn|>", "<|tool_response>"),
    "gemma": ("<eos>", "<end_of_turn>"),
    "glm4moe": ("<|endoftext|>", "<|user|>", "<|observation|>"),
    "gptoss": ("<|return|>", "<|endoftext|>", "<|call|>"),
    "idefics3": ("<|end_of_text|>", "<end_of_utterance>"),
    "lfm2": ("<|im_end|>",),
    "llama3": ("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
    "llava_next": ("</s>",),
    "muse_glimmer": ("<|eot|>",),
    "nemotron": ("<|im_end|>", "<|endoftext|>"),
    "phi3": ("<|endoftext|>", "<|assistant|>", "<|end|>"),
    "qwen": ("<|im_end|>", "<|endoftext|>"),
    "smolvlm": ("<end_of_utterance>",),
}
"""By the beginning of a template's name: the tokens that end an answer, written from what is
known of each family and not read from its generation config. The first is the tokenizer's own."""

SPECIAL = re.compile(
    r"<\|[^|<>\s]+\|>|<｜[^｜]+｜>|<\|[a-z_]+>|<[a-z_]+\|>|</?[a-z_]+_(?:of_)?[a-z]+>|<bos>"
)

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "What is 2 + 2?"}
ANSWER = {"role": "assistant", "content": "It is 4."}
THINKS = {**ANSWER, "reasoning_content": "Two and two."}
MORE = {"role": "user", "content": "And 3 + 3?"}
SIX = {"role": "assistant", "content": "It is 6."}
SIX_THINKS = {**SIX, "reasoning_content": "Three and three."}
WEATHER = {"role": "user", "content": "Weather in Oslo?"}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Where."},
                    "days": {"type": "integer", "description": "How far ahead."},
                },
                "required": ["city"],
            },
        },
    }
]


def call(name: str, city: str) -> dict[str, Any]:
    function = {"name": "weather", "arguments": {"city": city, "days": 2}}
    return {"id": name, "type": "function", "function": function}


CALL = {"role": "assistant", "content": "", "tool_calls": [call("c1", "Oslo")]}
TWO_CALLS = {**CALL, "tool_calls": [call("c1", "Oslo"), call("c2", "Bergen")]}
SAID_CALL = {**CALL, "content": "I look it up."}
THOUGHT_CALL = {**CALL, "reasoning_content": "A tool knows."}
RESULT = {"role": "tool", "content": "18 degrees", "tool_call_id": "c1"}
RESULT_2 = {"role": "tool", "content": "20 degrees", "tool_call_id": "c2"}
WARM = {"role": "assistant", "content": "It is warm."}

KINDS: dict[str, tuple[list[Message], list[dict[str, Any]]]] = {
    "one turn": ([ASK, ANSWER], []),
    "two turns": ([ASK, ANSWER, MORE, SIX], []),
    "system": ([SYSTEM, ASK, ANSWER], []),
    "call": ([WEATHER, CALL, RESULT, WARM], TOOLS),
    "call with text": ([WEATHER, SAID_CALL, RESULT, WARM], TOOLS),
    "two calls": ([WEATHER, TWO_CALLS, RESULT, RESULT_2, WARM], TOOLS),
    "thoughts": ([ASK, THINKS], []),
    "thoughts earlier": ([ASK, THINKS, MORE, SIX], []),
    "thoughts in both": ([ASK, THINKS, MORE, SIX_THINKS], []),
    "thoughts and call": ([WEATHER, THOUGHT_CALL, RESULT, WARM], TOOLS),
}


def names() -> list[str]:
    """Of the templates as they were published."""
    found = sorted(path.stem for path in FOLDER.glob("*.jinja"))
    return [name for name in found if not name.endswith("_training")]


def template(name: str) -> str:
    return (FOLDER / f"{name}.jinja").read_text(encoding="utf-8")


def training_template(name: str) -> str | None:
    """TRL's version with `{% generation %}` marks; some templates were published with them."""
    path = FOLDER / f"{name}_training.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    own = template(name)
    return own if re.search(r"\{%-?\s*generation\b", own) else None


def ends(name: str) -> tuple[str, ...]:
    return next(found for start, found in ENDS.items() if name.startswith(start))


def special_tokens(name: str) -> list[str]:
    """That the template writes, and those that end an answer."""
    return sorted({*SPECIAL.findall(template(name)), *ends(name), "<bos>"})


@cache
def tokenizer(name: str) -> Any:
    """One token a byte, so that a mask is exact to the character, and one a special token."""
    special = special_tokens(name)
    pieces = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<bos>", eos_token=ends(name)[0], pad_token="<bos>"
    )
    fast.chat_template = template(name)
    return fast


def encoder(name: str) -> PairEncoder:
    made = tokenizer(name)
    ids = frozenset(made.convert_tokens_to_ids(list(ends(name))))
    return PairEncoder(made, ids, "chat", 100_000, ChatFormat(made, today=date(2031, 3, 5)))


def ours(name: str, kind: str) -> list[tuple[str, str]]:
    """(all before it, what is trained) of each of the assistant's turns, as text.

    Raises:
        UnusableRowError: such a conversation is refused.
    """
    coder = encoder(name)
    return [
        span
        for example in sft_examples(coder.conversation(*KINDS[kind]))
        for span in spans(
            coder.tokenizer, example["input_ids"], [label != NO_LOSS for label in example["labels"]]
        )
    ]


def theirs(name: str, kind: str) -> list[tuple[str, str]]:
    """As `ours`, by TRL's template for training and its mask.

    It is given thoughts under the names that any template reads, and calls as it wants them.
    """
    made, (messages, tools) = tokenizer(name), KINDS[kind]
    named = [
        {**m, **dict.fromkeys(REASONING, m["reasoning_content"])} if "reasoning_content" in m else m
        for m in messages
    ]
    out = made.apply_chat_template(
        named,
        tools=tools or None,
        chat_template=training_template(name),
        return_assistant_tokens_mask=True,
        return_dict=True,
        strftime_now=date(2031, 3, 5).strftime,
    )
    return list(spans(made, out["input_ids"], [bool(m) for m in out["assistant_masks"]]))


def spans(made: Any, ids: Sequence[int], mask: Sequence[bool]) -> Iterator[tuple[str, str]]:
    """(all before it, it) of each stretch of tokens with a loss."""
    start = 0
    for trained, group in itertools.groupby(mask):
        n = len(list(group))
        if trained:
            yield made.decode(ids[:start]), made.decode(ids[start : start + n])
        start += n


def difference(
    name: str, message: Message, mine: tuple[str, str], trl: tuple[str, str]
) -> list[str]:
    """How TRL's tokens with a loss differ from ours in one turn, as words of `DIFFERENCES`."""
    (before, said), (their_before, their_said) = mine, trl
    found = []
    opening = _opening(before, their_said)
    if opening:
        found.append("+opening")
        their_before, their_said = their_before + opening, their_said.removeprefix(opening)
    unopened = before.rstrip().removesuffix("<think>").rstrip()
    if their_before.rstrip().removesuffix("<think>").rstrip() != unopened:
        found.append("prompt")
    text, end = _without_end(name, said)
    their_text, their_end = _without_end(name, their_said.rstrip())
    if their_said != their_said.rstrip():
        found.append("+line feed")
    if their_text.rstrip().endswith(end):
        found.append("+end")
        their_text = their_text.rstrip().removesuffix(end)
    elif end != their_end:
        found.append("other end" if their_end else "-end")
    if text.strip() == their_text.strip():
        return found
    for key, what in (("reasoning_content", "-thoughts"), ("content", "-text")):
        if message.get(key, "") not in their_text:
            return [*found, what]
    return [*found, "-closing" if text == f"</think>\n\n{their_text}" else "other"]


def _opening(before: str, said: str) -> str:
    """The longest text that a prompt ends with and a trained text begins with."""
    prompts = (before, before.rstrip(), before.rstrip().removesuffix("<think>"))
    sizes = range(len(said), 0, -1)
    return next((said[:n] for n in sizes if any(p.endswith(said[:n]) for p in prompts)), "")


def _without_end(name: str, said: str) -> tuple[str, str]:
    found = next((end for end in (*ends(name), "<|end|>") if said.endswith(end)), "")
    return said.removesuffix(found), found


DIFFERENCES = {
    "+opening": "the end of the prompt is trained too: a header, a line feed or `<think>`",
    "+line feed": "a line feed after the end is trained too",
    "+end": "another end token after the end is trained too",
    "-end": "the end is not trained",
    "other end": "the end is the one that a turn has once the conversation goes on",
    "-thoughts": "the thoughts are not trained: the template leaves them out",
    "-text": "the text beside a call is not trained: the template leaves it out",
    "-closing": "the prompt opens a thought at inference; TRL's text does not, so it closes none",
    "prompt": "the prompt is another one than at inference: thoughts of earlier turns stay or go",
}
"""TRL's loss beside ours."""


@dataclass(frozen=True)
class Cell:
    """What becomes of a conversation.

    reason: of a refusal; empty where it is trained.
    in_tags: its thoughts are trained in `<think>` tags, of which the template knows nothing.
    words: of `DIFFERENCES`; None where TRL has no template for training.
    """

    reason: str = ""
    in_tags: bool = False
    words: frozenset[str] | None = None


def cell(name: str, kind: str) -> Cell:
    try:
        mine = ours(name, kind)
    except UnusableRowError as error:
        return Cell(str(error))
    said = [message for message in KINDS[kind][0] if message["role"] == "assistant"]
    in_tags = "<think>" not in template(name) and any("<think>" in text for _, text in mine)
    if training_template(name) is None:
        return Cell(in_tags=in_tags)
    trl = theirs(name, kind)
    turns = zip(said, mine, trl, strict=True)
    words = frozenset(word for turn in turns for word in difference(name, *turn))
    if not words <= DIFFERENCES.keys():
        raise AssertionError(f"{name}, {kind}: TRL trains {trl} in place of {mine}")
    return Cell("", in_tags, words)


def table() -> str:
    """The table of the page, and its words explained."""
    rows = {name: {kind: cell(name, kind) for kind in KINDS} for name in names()}
    cells = [found for row in rows.values() for found in row.values()]
    reasons = sorted({found.reason for found in cells if found.reason})
    letters = dict(zip(reasons, "abcdefghijklmnopqrstuvwxyz", strict=False))
    lines = [f"| | TRL | {' | '.join(KINDS)} |", f"|---|---|{'---|' * len(KINDS)}"]
    for name, row in rows.items():
        compared = [found.words for found in row.values() if found.words is not None]
        always = frozenset.intersection(*compared) if compared else frozenset()
        shown = [_shown(found, always, letters) for found in row.values()]
        trl = (_words(always) or "=") if compared else "–"
        lines.append(f"| `{name}` | {trl} | {' | '.join(shown)} |")
    n_refused = sum(bool(found.reason) for found in cells)
    versions = ", ".join(f"{package} {version(package)}" for package in ("trl", "transformers"))
    return "\n".join(
        [
            f"With {versions}: {len(rows)} templates and {len(cells)} conversations, of which "
            f"{len(cells) - n_refused} are trained whole and {n_refused} are refused.",
            "",
            *lines,
            "",
            "✗: refused, with the reason that is counted:",
            "",
            *(f"- **{letter}**: {reason}" for reason, letter in letters.items()),
            "",
            "How the loss of TRL's template for training differs from ours:",
            "",
            *(f"- **{word}**: {meaning}" for word, meaning in DIFFERENCES.items()),
        ]
    )


def _shown(found: Cell, always: frozenset[str], letters: dict[str, str]) -> str:
    if found.reason:
        return f"✗ {letters[found.reason]}"
    tags = " in tags" if found.in_tags else ""
    return f"✓{tags} {_words((found.words or frozenset()) - always)}".rstrip()


def _words(words: frozenset[str]) -> str:
    return ", ".join(word for word in DIFFERENCES if word in words)


def page() -> str:
    """The page with its table made anew."""
    text = PAGE.read_text(encoding="utf-8")
    between = re.compile(r"(<!-- table -->\n).*(<!-- end -->)", re.DOTALL)
    return between.sub(lambda match: f"{match[1]}{table()}\n{match[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
