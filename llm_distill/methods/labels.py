"""Which labels of a list a model's answers give to a text. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp
from statistics import fmean
from typing import Any

from llm_distill.rows.label_lists import LabelEntry, plain

TAG = re.compile(r"<label>(.*?)</label>", re.DOTALL | re.IGNORECASE)
OPEN = "<label>"
SEPARATOR = re.compile(r"[;\n]")
"""Between several labels: names may have commas."""
_WITHOUT_SPACES = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Burmese, Khmer
    "\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # kana, Han
)
WORD = re.compile(rf"[{_WITHOUT_SPACES}]|[^\s{_WITHOUT_SPACES}]+")


def named_in(answer: str, names: Sequence[str], *, is_cut: bool = False) -> str | None:
    """The label that an answer gives: what the last `<label>…</label>` says, or else all of it.

    Names are compared whole, so one may begin like another. is_cut: the answer was cut, so what is
    in no closed tag may be the beginning of another name.

    Returns:
        The name as in the list; None for one that is not in it.
    """
    texts, _ = _said(answer, is_cut)
    said = plain(texts[-1]) if texts else ""
    return next((name for name in names if plain(name) == said), None)


@dataclass(frozen=True)
class Several:
    """What an answer says of several labels.

    given: in the list's order. others: what is not in the list.
    is_readable: it gives some, or says that there are none (`<label></label>`); a refusal, say,
        does neither.
    """

    given: list[str]
    others: list[str]
    is_readable: bool


def all_named_in(answer: str, names: Sequence[str], *, is_cut: bool = False) -> Several:
    """The labels that an answer gives between `;` in its last tags, or else in all of it.

    Tags that follow each other are one list; a part with commas is read as several where each of
    them is a name. is_cut: the answer was cut, so what is in no closed tag may be half a list.
    """
    texts, is_tagged = _said(answer, is_cut)
    said = [part for text in texts for part in SEPARATOR.split(text)]
    known = {plain(name): name for name in names}
    given, others = set(), []
    for part in filter(None, map(str.strip, said)):
        parts = [part] if plain(part) in known else part.split(",")
        found = [known[plain(each)] for each in parts if plain(each) in known]
        if len(found) == len(parts):
            given.update(found)
        elif plain(part):
            others.append(plain(part))
    is_readable = bool(given) or (is_tagged and not others)
    return Several([name for name in names if name in given], others, is_readable)


def _said(answer: str, is_cut: bool) -> tuple[list[str], bool]:
    """What gives labels: the last tags, or else all of the answer; and whether it is tagged."""
    found = list(TAG.finditer(answer))
    if not found:
        before, tag, _ = answer.lower().rpartition(OPEN)
        own = answer[len(before) + len(tag) :] if tag else answer
        return ([], False) if is_cut else ([own], bool(tag))
    last = [found.pop()]
    while found and not re.search(r"\w", answer[found[-1].end() : last[0].start()]):
        last.insert(0, found.pop())
    return [each.group(1) for each in last], True


def shares(votes: Sequence[str], names: Sequence[str]) -> list[float]:
    """Of each name its share of the votes. Self-consistency's estimate of p(label | text).

    Raises:
        ValueError: there are no votes.
    """
    if not votes:
        raise ValueError("shares need at least one vote")
    counts = Counter(votes)
    return [counts[name] / len(votes) for name in names]


def likelihood_shares(logps: Sequence[float]) -> list[float]:
    """Softmax over the labels' log-probabilities: p(label) given that it is one of them.

    Args:
        logps: Of each label's whole text, its end included, so that no label is favoured for being
            the beginning of another.
    """
    highest = max(logps)
    weights = [exp(logp - highest) for logp in logps]
    total = sum(weights)
    return [weight / total for weight in weights]


def calibrated(
    probabilities: Sequence[Sequence[float]],
) -> tuple[list[list[float]], list[float]]:
    """p(label | text) divided by its mean over the texts, made to add up to 1 (batch calibration).

    It takes away that a model likes a label whatever the text says, without any right label (Zhou
    et al., "Batch Calibration", arXiv 2309.17249). Where labels are far from equally frequent it
    takes their frequencies away as well.

    Args:
        probabilities: [texts, labels], for each text with the sum 1.

    Returns:
        The same after calibration, and the means, [labels].
    """
    means = [fmean(of_label) for of_label in zip(*probabilities, strict=True)]
    found = []
    for of_text in probabilities:
        ratios = [p / mean if mean else 0.0 for p, mean in zip(of_text, means, strict=True)]
        total = sum(ratios)
        found.append([ratio / total for ratio in ratios])
    return found, means


def likeliest(probabilities: Sequence[float], names: Sequence[str]) -> tuple[str, float]:
    """The name with the highest probability, of equals the first, and that probability."""
    best = max(range(len(names)), key=probabilities.__getitem__)
    return names[best], probabilities[best]


def above(threshold: float, probabilities: Sequence[float], names: Sequence[str]) -> list[str]:
    """The names whose probability is above it, of labels that do not exclude each other."""
    return [name for name, p in zip(names, probabilities, strict=True) if p > threshold]


def least_sure(probabilities: Sequence[float]) -> float:
    """How sure the least sure of several yes-or-no answers is: the minimum of max(p, 1 − p)."""
    return min(max(p, 1 - p) for p in probabilities)


def merged(
    probabilities: Sequence[float], names: Sequence[str], mark: str
) -> tuple[list[str], list[float]]:
    """Classes that are the same up to the last mark as one, with the sum of their probabilities.

    >>> merged([0.3, 0.4, 0.3], ["arts/1", "sports", "arts/2"], "/")
    (['arts', 'sports'], [0.6, 0.4])
    >>> merged([0.25, 0.75], ["sci/tech/1", "sci/bio/1"], "/")[0]
    ['sci/tech', 'sci/bio']
    """
    sums: dict[str, float] = {}
    for name, p in zip(names, probabilities, strict=True):
        before, found, _ = name.rpartition(mark)
        whole = before if found else name
        sums[whole] = sums.get(whole, 0.0) + p
    return list(sums), list(sums.values())


def cut_to(text: str, n_words: int) -> str:
    """The first words of a text with the white space between them.

    Where words have no space between them (Chinese, Japanese, Thai), each character is one.

    >>> cut_to("one  two\\nthree four", 3)
    'one  two\\nthree'
    >>> cut_to("新型コロナ virus 感染", 7)
    '新型コロナ virus 感'
    """
    ends = [match.end() for match in islice(WORD.finditer(text), n_words)]
    return text[: ends[-1]] if ends else text


def as_variables(labels: Sequence[LabelEntry]) -> list[Mapping[str, Any]]:
    """For a template: `name`, `definition` and `examples` of each."""
    return [
        {"name": each.name, "definition": each.definition, "examples": list(each.examples)}
        for each in labels
    ]
