"""Python that loads a model and asks it as its exam, or its training, asked it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_distill.errors import LLMDistillError
from llm_distill.manifest import Manifest
from llm_distill.prompts import Template, load_template

QUESTION = "What is 2 + 2?"
MARK = "\ue000{}\ue001"
"""Stands for a value that is not known yet; of no script."""
MAX_TOKENS = 256


@dataclass(frozen=True)
class Loading:
    """Where a model is.

    Attributes:
        path: a whole model, or the base.
        adapters: on top of it, in order.
        revision: of a base on the Hub.
        dtype: of a models: entry.
        note: said beside the base.
    """

    path: str
    adapters: tuple[str, ...] = ()
    revision: str | None = None
    dtype: str = "auto"
    note: str = ""


@dataclass(frozen=True)
class Asking:
    """How a model is asked.

    Attributes:
        by: what asked it so, such as `exam`; empty where nothing is known.
        is_chat: whether through its chat template.
        template: makes the prompt; None for the question as it is.
        variables: the template's constants.
        hidden: the name of a template whose text is not to be quoted, or is not there anymore.
    """

    is_chat: bool
    by: str = ""
    template: Template | None = None
    variables: Mapping[str, Any] | None = None
    max_tokens: int = MAX_TOKENS
    stops: Sequence[str] = ()
    hidden: str | None = None


def asking(
    is_chat: bool, exam: Manifest | None, training: Manifest | None, *, quotes: bool = True
) -> Asking:
    """As an exam that names the model asks it, else as its training did.

    Args:
        is_chat: whether it is asked through its chat template.
        exam: the `evaluate` stage.
        training: what trained the model.
        quotes: whether a template of the user's own may be quoted.
    """
    by = exam or training
    if by is None:
        return Asking(is_chat)
    name = by.settings.get("template" if exam else "prompt_template")
    template = _as_it_was(by, name) if isinstance(name, str) else None
    is_shown = template is not None and (quotes or _is_bundled(template))
    sampling = by.settings.get("sampling") or {}
    return Asking(
        is_chat,
        by.name,
        template if is_shown else None,
        by.settings.get("variables") or {},
        int(sampling.get("max_tokens") or MAX_TOKENS),
        tuple(sampling.get("stop") or ()),
        name if isinstance(name, str) and not is_shown else None,
    )


def _as_it_was(by: Manifest, name: str) -> Template | None:
    """The template that a stage used; None where it is gone or was changed since."""
    try:
        found = load_template(name)
    except LLMDistillError:
        return None
    then = (by.identity.get("templates") or {}).get(name)
    return found if then in (None, found.digest) else None


def snippet(loading: Loading, asked: Asking) -> str:
    """The lines, which end with one newline."""
    lines = [*_loaded(loading), "", *_prompt(asked), *_inputs(asked), *_answer(asked)]
    return "\n".join(lines) + "\n"


def _loaded(loading: Loading) -> list[str]:
    """The model, with its adapters, and the tokenizer that was trained with it."""
    revision = f", revision={_quoted(loading.revision)}" if loading.revision else ""
    dtype = f", dtype={_quoted(loading.dtype)}" if loading.dtype != "auto" else ""
    note = f"  # {loading.note}" if loading.note else ""
    imported = "from transformers import AutoModelForCausalLM, AutoTokenizer"
    lines = [*(["from peft import PeftModel"] if loading.adapters else []), imported, ""]
    path = _quoted(loading.path)
    lines += [f"model = AutoModelForCausalLM.from_pretrained({path}{revision}{dtype}){note}"]
    # One after the other, each into the weights, as the adapter after it was trained on them.
    merge = ".merge_and_unload()" if len(loading.adapters) > 1 else ""
    for adapter in loading.adapters:
        lines.append(f"model = PeftModel.from_pretrained(model, {_quoted(adapter)}){merge}")
    last = _quoted((loading.path, *loading.adapters)[-1])
    tokenizer_revision = "" if loading.adapters else revision
    lines.append(f"tokenizer = AutoTokenizer.from_pretrained({last}{tokenizer_revision})")
    return lines


def _prompt(asked: Asking) -> list[str]:
    question = f"question = {_quoted(QUESTION)}"
    if asked.hidden is not None:
        how = f"  # '{asked.by}' forms it by its template {asked.hidden}"
        return [question, f"prompt = question{how}"]
    if asked.template is None:
        return [question, "prompt = question"]
    pieces = _pieces(asked.template, asked.variables or {})
    if pieces is None:
        how = f"  # '{asked.by}' forms it by {asked.template.name}"
        return [question, f"prompt = question{how}"]
    names = [name for name, is_name in pieces if is_name]
    first, *others = dict.fromkeys(names)
    values = [f"{first} = {_quoted(QUESTION)}", *(f'{name} = "…"' for name in others)]
    written = [name if is_name else _quoted(name) for name, is_name in pieces]
    how = f"  # as '{asked.by}' asks" if asked.by else ""
    return [*values, f"prompt = {' + '.join(written)}{how}"]


def _pieces(template: Template, variables: Mapping[str, Any]) -> list[tuple[str, bool]] | None:
    """The prompt as texts and names of variables; None where it is more than these in a row."""
    names = sorted(template.variables - variables.keys() - {"examples"})
    marks = {name: MARK.format(name) for name in names}
    try:
        text = template.render({"examples": [], **variables, **marks})
        longer = {name: mark * 2 for name, mark in marks.items()}
        is_plain = template.render({"examples": [], **variables, **longer}) == _doubled(text, marks)
    except LLMDistillError:
        return None
    if not (names and is_plain and all(mark in text for mark in marks.values())):
        return None
    found: list[tuple[str, bool]] = []
    for part in text.split(MARK[0]):
        name, closed, rest = part.partition(MARK[-1])
        found += [(name, True), (rest, False)] if closed else [(part, False)]
    return [piece for piece in found if piece[0]]


def _doubled(text: str, marks: Mapping[str, str]) -> str:
    for mark in marks.values():
        text = text.replace(mark, mark * 2)
    return text


def _inputs(asked: Asking) -> list[str]:
    if not asked.is_chat:
        made = 'tokenizer(prompt, return_tensors="pt", return_token_type_ids=False)'
        return [f"inputs = {made}"]
    return [
        "inputs = tokenizer.apply_chat_template(",
        '    [{"role": "user", "content": prompt}], add_generation_prompt=True,',
        '    return_dict=True, return_tensors="pt",',
        ")",
    ]


def _answer(asked: Asking) -> list[str]:
    stops = ""
    cut: list[str] = []
    if asked.stops:
        listed = json.dumps(list(asked.stops), ensure_ascii=False)
        stops = f", stop_strings={listed}, tokenizer=tokenizer"
        cut = [f"for stop in {listed}:", "    answer = answer.split(stop)[0]"]
    given = f"do_sample=False, max_new_tokens={asked.max_tokens}{stops}"
    return [
        f"output = model.generate(**inputs, {given})",
        'written = output[0, inputs["input_ids"].shape[1] :]',
        "answer = tokenizer.decode(written, skip_special_tokens=True)",
        *cut,
        "print(answer.strip())",
    ]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _is_bundled(template: Template) -> bool:
    """Whether the package brings it; a user's file of the same name has another digest."""
    from hashlib import sha256

    from llm_distill.paths import bundled_root

    file = bundled_root() / "prompts" / template.name
    return file.is_file() and sha256(file.read_bytes()).hexdigest() == template.digest
