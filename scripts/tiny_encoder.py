"""Makes data/models/tiny-encoder: a small BERT with a token for each word of the notices.

    python scripts/tiny_encoder.py [--out data/models/tiny-encoder]

Its weights are random: it has read nothing, so whatever a classifier that starts from it knows, it
has from its labels.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from notices import SHARED, TOPICS
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def tokenizer() -> Any:
    """A token for each word of the notices."""
    words = dict.fromkeys(SHARED.split())
    for _, common, parts in TOPICS.values():
        words |= dict.fromkeys([*common.split(), *(w for part in parts for w in part.split())])
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, vocabulary[name]) for name in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("data/models/tiny-encoder"))
    options = parser.parse_args()
    torch.manual_seed(0)
    words = tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        pad_token_id=words.pad_token_id,
    )
    BertModel(config).save_pretrained(options.out)
    words.save_pretrained(options.out)


if __name__ == "__main__":
    main()
