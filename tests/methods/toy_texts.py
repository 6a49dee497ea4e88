"""Toy models whose texts can all be listed: a policy over words of a and b, and two tokenizers.

A text is up to two words of up to two letters, each with a space before it. The student writes
letter by letter, [␣a, b, ␣a, <end>]; a teacher that has whole words reads [␣ab, ␣a, <end>].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

END = "<end>"
LETTERS = (" a", " b", "a", "b", END)
WORDS = (" a", " b", " aa", " ab", " ba", " bb", END)
Tokens = tuple[str, ...]


def may_follow(written: Tokens) -> list[str]:
    """What the student may write next."""
    text = "".join(written)
    n_words, last = text.count(" "), text.rpartition(" ")[2]
    found = [END]
    if n_words < 2:
        found += [" a", " b"]
    if n_words and len(last) < 2:
        found += ["a", "b"]
    return found


def all_texts() -> list[Tokens]:
    """As the student's tokens; each ends."""
    found: list[Tokens] = []
    going: list[Tokens] = [()]
    while going:
        written = going.pop()
        for token in may_follow(written):
            (found if token == END else going).append((*written, token))
    return sorted(found)


def words(letters: Tokens) -> Tokens:
    """The same text in whole words."""
    text = "".join(letters[:-1])
    return (*(f" {word}" for word in text.split()), END)


def places(ends: Callable[[Tokens], Tokens], text: Tokens) -> list[int]:
    """The byte after each token of a tokenization of a text; an end token is one byte on."""
    total, found = 0, []
    for token in ends(text):
        total += 1 if token == END else len(token)
        found.append(total)
    return found


def chunks(text: Tokens, other: Callable[[Tokens], Tokens]) -> tuple[list[int], list[int]]:
    """The chunk of each token of the student, and of the teacher's `other` tokens."""
    own, others = places(lambda t: t, text), places(other, text)
    borders = sorted({*own} & {*others})
    return tuple([sum(b < at for b in borders) for at in side] for side in (own, others))  # type: ignore[return-value]


class Policy:
    """Free logits for each beginning of a text: its gradient is by beginning and next token."""

    def __init__(self, seed: int, split: Callable[[Tokens], Tokens] = lambda text: text) -> None:
        """split: its tokenization of a text."""
        self._split = split
        beginnings = sorted(
            {split(text)[:n] for text in all_texts() for n in range(len(split(text)))}
        )
        self._row = {beginning: index for index, beginning in enumerate(beginnings)}
        self._next = [
            sorted({split(t)[len(b)] for t in all_texts() if split(t)[: len(b)] == b})
            for b in beginnings
        ]
        draw = torch.Generator().manual_seed(seed)
        shape = len(beginnings), max(map(len, self._next))
        self.logits = torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()

    def logps(self, text: Tokens) -> torch.Tensor:
        """Of each of its tokens."""
        tokens = self._split(text)
        found = []
        for n, token in enumerate(tokens):
            row = self._row[tokens[:n]]
            allowed = self._next[row]
            found.append(self.logits[row, : len(allowed)].log_softmax(0)[allowed.index(token)])
        return torch.stack(found)

    def logp(self, text: Tokens) -> torch.Tensor:
        return self.logps(text).sum()

    def kl_of_steps(self, other: Policy) -> torch.Tensor:
        """Σ over beginnings of how likely they are, held fixed, times KL(self ‖ other) there."""
        total = torch.zeros((), dtype=torch.float64)
        for beginning, row in self._row.items():
            n = len(self._next[row])
            own, others = (p.logits[row, :n].log_softmax(0) for p in (self, other))
            reach = sum(
                self.logp(t).exp()
                for t in all_texts()
                if self._split(t)[: len(beginning)] == beginning
            )
            total = total + torch.as_tensor(reach).detach() * (own.exp() * (own - others)).sum()
        return total

    def become(self, of_texts: Sequence[float]) -> None:
        """Take these probabilities of `all_texts`."""
        with torch.no_grad():
            for beginning, row in self._row.items():
                for index, token in enumerate(self._next[row]):
                    goes_on = (*beginning, token)
                    pairs = zip(all_texts(), of_texts, strict=True)
                    mass = sum(p for t, p in pairs if self._split(t)[: len(goes_on)] == goes_on)
                    self.logits[row, index] = torch.tensor(mass, dtype=torch.float64).log()


def gradient(policy: Policy, value: torch.Tensor) -> torch.Tensor:
    """Of a value, by the policy's logits."""
    (found,) = torch.autograd.grad(value, policy.logits, retain_graph=True)
    return found
