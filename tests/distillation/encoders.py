"""Row encoders with small tokenizers and chat templates made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from llm_distill.distillation.alignment.encoding import NO_LIMIT, RowEncoder, row_encoder
from llm_distill.methods.token_bytes import token_bytes
from llm_distill.models.sources import ModelSource, PromptFormat
from llm_distill.training.encoder import PairEncoder

ROOT = Path(__file__).parents[2]
MODELS = ROOT / "data/models"
SMOLLM2 = MODELS / "SmolLM2-135M-Instruct"
SPECIAL = ["<s>", "<|end|>", "<|user|>", "<|assistant|>"]


def template(answer: str, opening: str = "<|assistant|>") -> str:
    """A chat template; `opening` begins an assistant's turn, `answer` is how it goes on."""
    return (
        "{% for m in messages %}{% if m.role == 'assistant' %}"
        + opening
        + answer
        + "{% else %}<|user|>{{ m.content }}{% endif %}{% endfor %}"
        + ("{% if add_generation_prompt %}" + opening + "{% endif %}")
    )


PLAIN = template("{{ m.content }}<|end|>")
TEMPLATES = {
    "plain": PLAIN,
    "strips": template("{{ m.content | trim }}<|end|>\n"),
    "new lines": template("\n\n{{ m.content }}\n\n<|end|>\n"),
    "role header": template("{{ m.content }}<|end|>\n", "<|assistant|>assistant\n\n"),
    "its words": template("The sum: {{ m.content }} The sum.<|end|>\n"),
}
THINKS = template(
    "{% if loop.last and '</t>' not in m.content %}<t>\n\n</t>\n\n{% endif %}"
    "{{ m.content if loop.last else m.content.split('</t>')[-1] }}<|end|>\n"
)
"""As Qwen3's: empty thoughts before a last answer that has none; earlier ones lose theirs."""


def byte_level(
    *merges: str, bos: bool = False, eos: bool = False, normalizer: Any = None
) -> PreTrainedTokenizerFast:
    """A byte-level BPE with these merges, such as "a b" (a space in them is Ġ)."""
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, pairs)]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, pairs))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if bos or eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=("<s> " if bos else "") + "$A" + (" <|end|>" if eos else ""),
            special_tokens=[("<s>", 0), ("<|end|>", 1)],
        )
    return made(tokenizer)


def dummy_prefix() -> PreTrainedTokenizerFast:
    """As Llama 2's: a space before any text, ▁ for spaces, bytes for what is in no piece."""
    pieces = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehmnorst.", "▁a"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("▁", "a")], byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return made(tokenizer)


def made(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(SPECIAL)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<s>", bos_token="<s>"
    )


def encoder(
    tokenizer: Any,
    prompt_format: PromptFormat = "chat",
    chat_template: str = PLAIN,
    max_length: int = NO_LIMIT,
) -> RowEncoder:
    tokenizer.chat_template = chat_template
    ends = frozenset({tokenizer.eos_token_id})
    pairs = PairEncoder(tokenizer, ends, prompt_format, max_length)
    return RowEncoder(pairs, token_bytes(tokenizer))


def bundled(name: str, prompt_format: PromptFormat) -> RowEncoder:
    return row_encoder(ModelSource(name, str(MODELS / name), prompt_format=prompt_format), None)


def asked(*texts: str) -> list[dict[str, str]]:
    """A conversation: question, answer, question, answer, …"""
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
