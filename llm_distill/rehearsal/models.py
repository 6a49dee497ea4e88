"""Models that stand in for real ones: minute and random, asked through `rehearsal.answers`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llm_distill.rehearsal.questions import FORM, OPTIONS, WORDS, question

ANSWERS = "llm_distill.rehearsal.answers:answer"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
VOCABULARIES = (900, 600)
"""Tokens of the first model of a file, and of its others: their tokenizers differ."""
END = "<|end|>"


def entry(
    own: Mapping[str, Any], folder: Path, index: int, *, one_tokenizer: bool = False
) -> dict[str, Any]:
    """The entry under `models:` of a model that is asked and trained.

    one_tokenizer: all models of the file have the same.

    Raises:
        OSError: its folder cannot be written.
    """
    place = str(make(folder, min(index, 1), one_tokenizer=one_tokenizer))
    prompt_format = own.get("prompt_format", "chat")
    engine = {"kind": "scripted", "function": ANSWERS}
    return {"model_name_or_path": place, "prompt_format": prompt_format, "engine": engine}


def make(folder: Path, index: int, *, one_tokenizer: bool = False) -> Path:
    """A Llama of one layer with random weights and a tokenizer for the texts of a rehearsal.

    one_tokenizer: that of the first, whichever model it is.
    """
    from transformers import LlamaForCausalLM

    size = VOCABULARIES[0 if one_tokenizer else index]
    place = folder / (f"model{index}-{size}" if one_tokenizer and index else f"model{index}")
    return place if _is_there(place) else _save(place, LlamaForCausalLM, index, size)


def make_reward(folder: Path, form: Mapping[str, Any]) -> Path:
    """One that judges steps by two tokens, or by a head of two labels.

    form: of a stage's settings, `kind` and the texts that it has to know as tokens.
    """
    from transformers import LlamaForCausalLM, LlamaForTokenClassification

    tokens = tuple(str(form[name]) for name in ("good", "bad", "separator") if form.get(name))
    kind = form.get("kind", "next_token")
    place = folder / "-".join(("reward", kind, *(token.encode().hex() for token in tokens)))
    by_head = kind == "token_classification"
    made = LlamaForTokenClassification if by_head else LlamaForCausalLM
    return place if _is_there(place) else _save(place, made, 2, VOCABULARIES[1], tokens)


def _is_there(place: Path) -> bool:
    return (place / "model.safetensors").is_file()


def _save(place: Path, kind: Any, seed: int, size: int, tokens: tuple[str, ...] = ()) -> Path:
    import torch
    from transformers import LlamaConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = _tokenizer(size, tokens)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.eos_token_id}
    torch.manual_seed(seed)
    model = kind(LlamaConfig(vocab_size=len(tokenizer), **SIZES, **ends, bos_token_id=None))
    tokenizer.save_pretrained(place)
    model.save_pretrained(place)  # last: it says that the folder is whole
    return place


def _tokenizer(size: int, tokens: tuple[str, ...]) -> Any:
    """Byte-level BPE, of the words that questions and answers are made of."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, special_tokens=[END], show_progress=False
        ),
    )
    made.add_tokens([token for token in tokens if made.token_to_id(token) is None])
    return PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=END, pad_token=END, chat_template=TEMPLATE
    )


def _texts() -> Iterator[str]:
    draw = random.Random(0)
    yield from (f" {word} {word.capitalize()}" for word in WORDS for _ in range(9))
    yield from (f"{FORM} {OPTIONS}" for _ in range(9))
    yield from (question(draw, templated=False, options=False) for _ in range(300))
    yield from (f"1. So it is {n}. \\boxed{{{n}}} <ans>{n}</ans>\n\n2. " for n in range(300))
