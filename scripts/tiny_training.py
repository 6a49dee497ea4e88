"""Train a tiny Llama from a stream of documents.

A document is a list of pieces, each with whether the model writes it:

    [("Solve the word problem.\\n\\nQuestion: …", False), (" 3 + 4 = 7. <ans>7</ans>", True)]

Instead of the boolean there may be another text with as many tokens: the model then learns to write
that text but continues to read the piece.

Pieces are tokenized one by one and then joined. At inference the prompt is tokenized separately, so
the boundary between pieces is the same as in training.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

PAD, END, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{{ '<|assistant|>' + message['content'] + '<|end|>' }}"
    "{%- else -%}{{ '<|user|>' + message['content'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)
# Tags, words and numbers, each with the space before it: a completion starts with its own
# space, so that no token crosses the end of a prompt.
SPLIT = r" ?</?\w+>| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}<]+| ?<|\s+(?!\S)|\s+"

Piece = tuple[str, bool | str]


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer with the chat markers as special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[PAD, END, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        model_max_length=1024,
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
    )


def make_model(
    tokenizer: PreTrainedTokenizerFast, hidden: int, layers: int, seed: int
) -> LlamaForCausalLM:
    """A Llama whose heads are 32 wide; smaller heads do not run in vLLM on a CPU."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=hidden * 8 // 3 // 32 * 32,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def tokenized(
    documents: list[list[Piece]],
    tokenizer: PreTrainedTokenizerFast,
    silent: frozenset[int],
    learn_prompts: bool,
) -> list[tuple[list[int], list[int]]]:
    """Token ids and labels of each document; `silent` tokens are read but not learned."""
    pieces = [piece for document in documents for piece in document]
    encoded = iter(tokenizer([text for text, _ in pieces])["input_ids"])
    rows = []
    for document in documents:
        ids: list[int] = []
        labels: list[int] = []
        for _, its_own in document:
            piece = next(encoded)
            ids += piece
            learn = bool(its_own) or learn_prompts
            target = tokenizer(its_own)["input_ids"] if isinstance(its_own, str) else piece
            labels += [t if learn and t not in silent else -100 for t in target]
        rows.append((ids, labels))
    return rows


def batches(
    sample: Callable[[Random], list[Piece]],
    tokenizer: PreTrainedTokenizerFast,
    rng: Random,
    batch_tokens: int,
    device: str,
    learn_prompts: bool,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Padded batches of at most `batch_tokens` tokens, of documents of similar length."""
    # After an answer a document either ends or goes on with a blank line and another example.
    # Which of the two is not the model's to choose: only the end is learned.
    breaks = frozenset(i for i in range(len(tokenizer)) if not tokenizer.decode([i]).strip("\n"))
    silent = breaks - set(tokenizer.all_special_ids)
    while True:
        rows = tokenized([sample(rng) for _ in range(512)], tokenizer, silent, learn_prompts)
        rows.sort(key=lambda row: len(row[0]))
        chunks: list[list[tuple[list[int], list[int]]]] = [[]]
        for row in rows:
            if (len(chunks[-1]) + 1) * len(row[0]) > batch_tokens:
                chunks.append([])
            chunks[-1].append(row)
        rng.shuffle(chunks)
        for chunk in chunks:
            width = max(len(ids) for ids, _ in chunk)
            ids = torch.full((len(chunk), width), tokenizer.pad_token_id)
            labels = torch.full((len(chunk), width), -100)
            for i, (row_ids, row_labels) in enumerate(chunk):
                ids[i, : len(row_ids)] = torch.tensor(row_ids)
                labels[i, : len(row_ids)] = torch.tensor(row_labels)
            yield ids.to(device), labels.to(device)


def train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    sample: Callable[[Random], list[Piece]],
    *,
    tokens: int,
    learning_rate: float,
    seed: int,
    device: str,
    batch_tokens: int = 4096,
    learn_prompts: bool = True,
) -> float:
    """Train until `tokens` have been read.

    The learning rate warms up over 2 % and then falls linearly to a twentieth. With `learn_prompts`
    the prompts are learned too: reading questions is half of solving them.

    Returns:
        The seconds that it took.
    """
    rng = Random(seed)
    model.to(device).train()
    decay = [p for p in model.parameters() if p.dim() > 1]
    plain = [p for p in model.parameters() if p.dim() <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}],
        lr=learning_rate,
        betas=(0.9, 0.98),
    )
    read, start = 0, time.monotonic()
    running = math.nan
    stream = batches(sample, tokenizer, rng, batch_tokens, device, learn_prompts)
    for step, (ids, labels) in enumerate(stream, start=1):
        if read >= tokens:
            break
        done = read / tokens
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * min(done / 0.02 + 0.01, 1.0 - 0.95 * done)
        # No attention mask: padding is on the right, where a causal model never looks back from.
        # On a CPU plain float32 is faster at this width.
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=device.startswith("cuda")):
            logits = model(input_ids=ids, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten()
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        read += ids.numel()
        running = loss.item() if math.isnan(running) else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            speed = read / (time.monotonic() - start)
            print(
                f"step {step}  {read / 1e6:.2f}M tokens  loss {running:.3f}  {speed:.0f}/s",
                flush=True,
            )
    model.eval()
    return time.monotonic() - start


def publish(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, card: str
) -> None:
    """Write the model beside `out` and move it there in one step, so that it is always complete."""
    building, old = out.with_name(f".{out.name}.new"), out.with_name(f".{out.name}.old")
    for leftover in (building, old):
        shutil.rmtree(leftover, ignore_errors=True)
    building.mkdir(parents=True)
    model.generation_config.update(
        do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    model.save_pretrained(building)
    tokenizer.save_pretrained(building)
    # The names that transformers 4 knows too, for engines that still come with it.
    config_file = building / "tokenizer_config.json"
    config = json.loads(config_file.read_text(encoding="utf-8"))
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    config["additional_special_tokens"] = config.pop("extra_special_tokens")
    config_file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (building / "README.md").write_text(card, encoding="utf-8")
    for file in building.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner reads
    with contextlib.suppress(FileNotFoundError):
        out.rename(old)
    building.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def document_text(document: list[Piece]) -> str:
    return "".join(text for text, _ in document)


def parameter_count(model: Any) -> int:
    return sum(p.numel() for p in model.parameters())
