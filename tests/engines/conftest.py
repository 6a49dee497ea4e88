"""A tiny random Llama with a byte-level tokenizer, built once: nothing to download."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from llm_distill.engines.base import Completion, Request
from llm_distill.engines.transformers.engine import TransformersEngine
from llm_distill.engines.transformers.settings import TransformersSettings
from llm_distill.models.sources import ModelSource
from tests.tiny_tokenizer import on_one_thread

CONTEXT = 96
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = (
    "Question: a farmer has twelve apples and gives five away.\nAnswer: seven apples are left.\n",
    "The quick brown fox jumps over the lazy dog; 0 1 2 3 4 5 6 7 8 9 + - * / = ?!\n\n",
    "The model continues the text, and the text goes on and on until it ends.\n",
)


def save_tokenizer(path: Path, vocabulary: int = 384) -> Any:
    """A byte-level BPE that puts <s> before plain text, saved at `path`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    bpe.train_from_iterator(CORPUS, trainer)
    bpe.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", bpe.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=special[3:],
        chat_template=TEMPLATE,
    )
    tokenizer.save_pretrained(path)
    return tokenizer


def save_model(path: Path, vocabulary: int, **config: Any) -> Any:
    """A random Llama at `path`; wide weights, so that the next token depends on the prompt."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.15,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    model = LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, **{**shape, **config}))
    model.save_pretrained(path)
    return model.eval()


one_thread = pytest.fixture(on_one_thread, scope="module", autouse=True)


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., ModelSource]:
    """Builds a tiny model with the given changes to its config, and says where it is."""

    def run(**config: Any) -> ModelSource:
        path = tmp_path_factory.mktemp("tiny-llama")
        save_model(path, len(save_tokenizer(path)), **config)
        return ModelSource("tiny", str(path), prompt_format="text")

    return run


@pytest.fixture(scope="session")
def tiny(build: Callable[..., ModelSource]) -> ModelSource:
    return build()


@pytest.fixture(scope="session")
def complete() -> Callable[..., dict[str, Completion]]:
    """Every completion by its id, from a fresh engine on the CPU."""

    def run(source: ModelSource, requests: Iterable[Request], batch_size: int = 8) -> Any:
        settings = TransformersSettings(batch_size=batch_size, device="cpu")
        engine = TransformersEngine(source, settings)
        given = list(engine.generate(requests))
        engine.close()
        assert len({completion.id for completion in given}) == len(given)
        return {completion.id: completion for completion in given}

    return run
