"""Words of any language, with the signs that carry meaning. Pure.

Chinese, Japanese, Thai and their like write no spaces, so there a sign is a token of its own, which
counts as a part of a word. Combining marks belong to their word: without them Hindi falls apart.
"""

from __future__ import annotations

import unicodedata

import regex

from llm_distill.methods.decoration import superscripts_as_powers

# Signs for a word, about: Chinese words are one or two long, Thai ones four or five with marks.
_HALVES = r"\p{Han}\p{Hiragana}\p{Katakana}ー"
_QUARTERS = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
_LETTER = rf"(?: (?! [{_HALVES}{_QUARTERS}] ) [\p{{L}}\p{{N}}_] [\p{{M}}\u200c\u200d]* )"
_TOKEN = regex.compile(
    rf"""
    (?P<half> [{_HALVES}] \p{{M}}* )
    | (?P<quarter> [{_QUARTERS}] \p{{M}}* )
    # A number with its decimals, and the letters that hang on it; 6! is not 6, and .5 is not 5.
    | (?: (?<! [\p{{L}}\p{{N}}] ) \.\d+ | \d+ ) (?: [.,]\d+ )* (?: {_LETTER}+ | !+(?!=) )?
    # A word; f'(2) is not f(2), and n! is not n.
    | {_LETTER}+ (?: '+ (?= \s*\( ) | (?<= (?<! [\p{{L}}\p{{M}}\p{{N}}_'] ) \p{{L}} ) !+(?!=) )?
    | \)!+(?!=)
    # A minus, not a hyphen, or any other sign that carries meaning, such as +, < or (.
    | (?<! [\p{{L}}\p{{M}}] ) -
    | [^\p{{L}}\p{{M}}\p{{N}}\p{{Cf}}_\s.,;:!?'"‘’“”…。、「」『』《》〈〉【】〔〕·।॥؟،؛։¿¡-]
    """,
    regex.VERBOSE,
)
_SIZES = {"half": 0.5, "quarter": 0.25}


def words(text: str) -> list[str]:
    """Words, numbers and signs in lower case, without the marks that only punctuate."""
    return [token for token, _ in _sized(text)]


def normalise(text: str) -> str:
    """The words with single spaces; a text of punctuation only stays as it is, but trimmed."""
    return " ".join(words(text)) or " ".join(text.split())


def ngrams(text: str, n: int) -> set[str]:
    """Runs of n words of a text; a text shorter than n is one run as a whole.

    In a script without spaces n words are 2n signs (Chinese, Japanese) or 4n (Thai and its like).
    """
    tokens = _sized(text)
    found, start, size = set(), 0, 0.0
    for end, (_, length) in enumerate(tokens):
        size += length
        while size - tokens[start][1] >= n:
            size -= tokens[start][1]
            start += 1
        if size >= n:
            found.add(" ".join(token for token, _ in tokens[start : end + 1]))
    if not found:
        whole = normalise(text)
        return {whole} if whole else set()
    return found


def length(text: str) -> float:
    """How many words a text has, by the measure of `ngrams`."""
    return sum(size for _, size in _sized(text))


def numbers(text: str) -> tuple[str, ...]:
    """The words that hold a digit or a numeral of any script, in order."""
    return tuple(word for word in words(text) if any(map(str.isnumeric, word)))


def _sized(text: str) -> list[tuple[str, float]]:
    folded = unicodedata.normalize("NFKC", superscripts_as_powers(text)).casefold()
    plain = unicodedata.normalize("NFC", folded).translate({0x2212: "-", 0x2019: "'"})
    return [(m[0], _SIZES.get(m.lastgroup or "", 1.0)) for m in _TOKEN.finditer(plain)]
