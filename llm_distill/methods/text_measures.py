"""How near a free answer comes to its reference, by their words or characters: 0 to 1. Pure.

They measure shared wording: an answer that says the same in other words scores low, and a false one
with the reference's words scores high.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

from llm_distill.methods.words import words

TextMeasure = Literal["token_f1", "rouge_1", "rouge_2", "rouge_l", "chrf"]

PACKAGES: dict[TextMeasure, str] = {
    "rouge_1": "rouge_score",
    "rouge_2": "rouge_score",
    "rouge_l": "rouge_score",
    "chrf": "sacrebleu",
}
"""The package of each measure that needs one, as it is imported."""

_ROUGE: dict[TextMeasure, str] = {"rouge_1": "rouge1", "rouge_2": "rouge2", "rouge_l": "rougeL"}
_ARTICLE = re.compile(r"\b(?:a|an|the)\b")
_DECIMAL_POINT = re.compile(r"(?<=\d)\.(?=\d)")


def missing_packages(measures: Sequence[TextMeasure]) -> list[tuple[TextMeasure, str]]:
    """The measures whose package is not there, with its name on PyPI."""
    return [
        (name, package.replace("_", "-"))
        for name in measures
        if (package := PACKAGES.get(name)) is not None and find_spec(package) is None
    ]


def measured_text(measures: Sequence[TextMeasure], answer: str, reference: str) -> list[float]:
    """Each measure of an answer, in their order; 0 of a blank one."""
    if not answer.strip():
        return [0.0] * len(measures)
    kinds = tuple(_ROUGE[name] for name in measures if name in _ROUGE)
    rouge = _rouge_scorer(kinds).score(reference, answer) if kinds else {}
    found = []
    for name in measures:
        if name == "token_f1":
            found.append(token_f1(answer, reference))
        elif name == "chrf":
            found.append(_chrf().sentence_score(answer, [reference]).score / 100)
        else:
            found.append(float(rouge[_ROUGE[name]].fmeasure))
    return found


def token_f1(answer: str, reference: str) -> float:
    """SQuAD's F1 (Rajpurkar et al. 2016): of the words that both have, as often as both have them.

    >>> token_f1("The cat sat.", "a cat sat down"), token_f1("No", "Yes")
    (0.8, 0.0)
    """
    given, wanted = squad_words(answer), squad_words(reference)
    if not given or not wanted:
        return float(given == wanted)
    common = sum((Counter(given) & Counter(wanted)).values())
    return 2 * common / (len(given) + len(wanted))


def equal_texts(answer: str, reference: str) -> bool:
    """SQuAD's exact match: the same words but for case, punctuation and articles."""
    given, wanted = squad_words(answer), squad_words(reference)
    return given == wanted if given or wanted else answer.split() == reference.split()


def squad_words(text: str) -> list[str]:
    """Words in lower case without punctuation and English articles, as in SQuAD's script.

    Two differences: the point of a decimal stays, since 3.5 is not 35, and in scripts without
    spaces each sign is a word.

    >>> squad_words("The U.S. paid $1,000 in the 1st half: 3.5 %!")
    ['us', 'paid', '1000', 'in', '1st', 'half', '3.5']
    """
    marked = _DECIMAL_POINT.sub("\0", text.lower())
    kept = "".join(sign for sign in marked if not _is_punctuation(sign)).replace("\0", ".")
    return [word for part in _ARTICLE.sub(" ", kept).split() for word in _signs(part)]


def _is_punctuation(sign: str) -> bool:
    # Of ASCII, as Python's string.punctuation, which has $ and + too.
    return (sign.isascii() and not sign.isalnum() and sign.isprintable() and sign != " ") or (
        unicodedata.category(sign).startswith("P")
    )


def _signs(word: str) -> list[str]:
    return [word] if word.isascii() else words(word)


class _Tokenizer:
    """ROUGE's own of English, which knows a to z and 0 to 9 only; of other texts their words."""

    def tokenize(self, text: str) -> list[str]:
        return [token for word in words(text) for token in _rouge_tokens(word)]


def _rouge_tokens(word: str) -> list[str]:
    if any(sign.isalnum() and not sign.isascii() for sign in word):
        return [word]
    return re.findall(r"[a-z0-9]+", word)


@cache
def _rouge_scorer(kinds: tuple[str, ...]) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(kinds), tokenizer=_Tokenizer())


@cache
def _chrf() -> Any:
    from sacrebleu.metrics import CHRF

    return CHRF()
