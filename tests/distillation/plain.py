"""ALM as the paper has it, in loops over bytes and tokens: what the fast code must give."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from llm_distill.models.sources import ModelSource, load_model
from llm_distill.training.encoder import pair_encoder


def byte_of_character() -> dict[str, int]:
    """GPT-2's: printable bytes stand for themselves, the others are moved after U+0100."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


def writer(vocabulary: set[str]) -> Callable[[str], bytes]:
    """From a token to its bytes: SentencePiece's, byte-level BPE's, or ByT5's."""
    if "<0x00>" in vocabulary:
        single = {f"<0x{byte:02X}>": bytes([byte]) for byte in range(256)}
        return lambda token: single.get(token) or token.replace("▁", " ").encode()
    if "Ġ" in vocabulary:
        table = byte_of_character()
        return lambda token: bytes(table[c] for c in token)
    return lambda token: token.encode("latin-1" if len(token) == 1 else "utf-8")


@dataclass
class Side:
    """A model's view of one answer: bytes of each token, log p(token), log p(boundary) after."""

    tokens: list[bytes]
    logps: Any  # [tokens], with a gradient for the student
    boundary_logps: Any


def side(
    source: ModelSource, row: dict[str, Any], model: Any = None, sampled: list[int] | None = None
) -> Side:
    """sampled: the answer's tokens, its end included, in place of the text's own."""
    encoder, written, boundary_tokens = _read(source)
    head, tail = encoder.encode(row["prompt"], row["completion"])
    tail = sampled or tail
    model = model or _loaded(source)
    logits = model(torch.tensor([head + tail])).logits[0].double()
    logps = logits.log_softmax(-1)
    first = len(head)
    own, ends = [], []
    for i, token in enumerate(tail):
        own.append(logps[first + i - 1, token])
        ends.append(logps[first + i, boundary_tokens].exp().sum().log())
    return Side([written[token] for token in tail], torch.stack(own), torch.stack(ends))


@lru_cache(maxsize=4)
def _loaded(source: ModelSource) -> Any:
    """To be read: with no gradient that anybody looks at."""
    return load_model(source)


@lru_cache(maxsize=4)
def _read(source: ModelSource) -> tuple[Any, list[bytes], torch.Tensor]:
    """What encodes answers, the bytes of each token, and which of them begin a word or an end."""
    encoder = pair_encoder(source, 999)
    vocabulary = encoder.tokenizer.convert_ids_to_tokens(range(len(encoder.tokenizer)))
    added = encoder.tokenizer.added_tokens_decoder.values()
    special = {*encoder.tokenizer.all_special_tokens, *(str(t) for t in added if t.special)}
    write = writer(set(vocabulary))
    written = [token.encode() if token in special else write(token) for token in vocabulary]
    boundary_tokens = [
        token in special or i in encoder.ends or text[:1] in (b" ", b"\t", b"\n")
        for i, (token, text) in enumerate(zip(vocabulary, written, strict=True))
    ]
    return encoder, written, torch.tensor(boundary_tokens)


def chunks(teacher: Side, student: Side) -> list[tuple[list[int], list[int], bool]]:
    """(teacher's tokens, student's tokens, is the end): cut where both end a token."""
    found: list[tuple[list[int], list[int], bool]] = []
    spans = []
    for one in (teacher, student):
        text = b"".join(one.tokens[:-1])
        skipped = len(text) - len(text.lstrip())
        at, ends = 0, []
        for token in one.tokens[:-1]:
            at += len(token)
            ends.append(max(0, at - skipped))
        spans.append(ends)
    left: list[int] = []
    right: list[int] = []
    a = b = 0
    while a < len(spans[0]) and b < len(spans[1]):
        if spans[0][a] < spans[1][b]:
            left.append(a)
            a += 1
        elif spans[0][a] > spans[1][b]:
            right.append(b)
            b += 1
        else:
            left.append(a)
            right.append(b)
            if spans[0][a] > 0:
                found.append((left, right, False))
                left, right = [], []
            a += 1
            b += 1
    last = len(teacher.tokens) - 1, len(student.tokens) - 1
    return [*found, ([last[0]], [last[1]], True)]


def chunk_pairs(teacher: Side, student: Side, debias: bool, gamma: float) -> list[tuple[Any, Any]]:
    """(C_T, C_S) of each chunk that is compared."""
    pairs = []
    left: list[int] = []
    right: list[int] = []
    for ours, theirs, is_end in chunks(teacher, student):
        left, right = left + ours, right + theirs
        if debias and not is_end and teacher.boundary_logps[left[-1]].exp() < gamma:
            continue
        c_t = sum(teacher.logps[i] for i in left)
        c_s = sum(student.logps[i] for i in right)
        if debias and not is_end:
            c_t = c_t + teacher.boundary_logps[left[-1]]
            c_s = c_s + student.boundary_logps[right[-1]]
        pairs.append((c_t.detach(), c_s))
        left, right = [], []
    return pairs


def divergence(c_t: Any, c_s: Any, temperature: float, kind: str) -> Any:
    if math.isinf(temperature):
        a, b = -c_t, -c_s
        return b - a + a * (a / b).log() if kind == "kl" else (b - a).abs()
    p, q = (c_t / temperature).exp(), (c_s / temperature).exp()
    if kind == "kl":
        return temperature * (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log())
    return temperature * ((p - q).abs() / 2 + ((1 - p) - (1 - q)).abs() / 2)


def alm(
    rows: list[dict[str, str]],
    teacher: ModelSource,
    student: ModelSource,
    model: Any,
    *,
    temperature: float = 1.0,
    kind: str = "kl",
    debias: bool = True,
    gamma: float = 0.1,
) -> tuple[Any, int]:
    """The loss of a batch of these rows, and its number of chunks. model: the student's, loaded."""
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row in rows:
        pairs = chunk_pairs(side(teacher, row), side(student, row, model), debias, gamma)
        total = total + sum(divergence(c_t, c_s, temperature, kind) for c_t, c_s in pairs)
        count += len(pairs)
    return total / count, count


def sft(rows: list[dict[str, str]], student: ModelSource, model: Any) -> Any:
    """The mean cross entropy of the answers' tokens."""
    logps = torch.cat([side(student, row, model).logps for row in rows])
    return -logps.mean()
