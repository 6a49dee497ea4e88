"""Answers without typography: Markdown, LaTeX's spacing, signs that look alike. Pure."""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ", "0123456789-n")
_SAME = str.maketrans({"−": "-", "–": "-", "—": "-", "⁄": "/", "∕": "/", "‘": "'", "’": "'"})
_WRAPPED = re.compile(
    r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname|fbox|boxed|emph)"
    r"\s*\{([^{}]*)\}"
)
_AROUND = (
    ("**", "**"),
    ("__", "__"),
    ("*", "*"),
    ("_", "_"),
    ("```", "```"),
    ("`", "`"),
    ('"', '"'),
    ("“", "”"),
    ("'", "'"),
    ("$$", "$$"),
    ("$", "$"),
)
_LATEX_AROUND = ((r"\(", r"\)"), (r"\[", r"\]"))
_BEFORE = re.compile(
    r"(?:the\s+)?(?:final\s+)?(?:answer|result|value)(?:\s+is)?\s*[:=]?\s+(?=\S)"
    r"|(?:approximately|about|roughly|exactly|\\approx|≈|~|=|:)\s*",
    re.IGNORECASE,
)


def boxed(text: str) -> str:
    r"""What the last `\boxed{…}` of a solution holds; the text itself without one.

    >>> boxed(r"So the sum is $\boxed{\frac{1}{2}}$.")
    '\\frac{1}{2}'
    """
    _, found, rest = text.rpartition(r"\boxed{")
    depth = 1
    for index, letter in enumerate(rest if found else ""):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return rest[:index]
    return text


def undecorated(text: str, lines: bool = False) -> str:
    r"""Without what is typography: Markdown, dollar signs of LaTeX, `\text`, thousands marks.

    Args:
        text: An answer.
        lines: Keep its line breaks.
    """
    text = superscripts_as_powers(text)
    text = re.sub(r"(?<=\d)([¼½¾⅐-⅞])", r" \1", text)
    text = unicodedata.normalize("NFKC", text).translate(_SAME)
    text = re.sub(r"√\s*(\d+|[A-Za-z]|\([^()]*\))", r"\\sqrt{\1}", text)
    text = re.sub(r"\\[dt]frac\b", r"\\frac", text)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\(?:left|right|displaystyle|bigl|bigr|big|Big)(?![A-Za-z])", "", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b", "°", text)
    text = re.sub(r"(?<=\d)(?:\{,\}|\\,|\\!|\u202f)(?=\d{3})", ",", text)
    text = re.sub(r"\\[,;:! ]", " ", text).replace(r"\%", "%")
    text = re.sub(r"(?<!\\)\$([^$]*[\\^_{][^$]*)(?<!\\)\$", r" \1 ", text)
    before = None
    while before != text:
        before = text
        text = _WRAPPED.sub(r" \1 ", text).strip()
        text = text.rstrip(".,;:。，；： \n") or text
        for start, end in (*_AROUND, *_LATEX_AROUND):
            inner = text[len(start) : -len(end)]
            if (
                text.startswith(start)
                and text.endswith(end)
                and inner.strip()
                and start not in inner
            ):
                text = inner.strip()
        text = text.replace(r"\$", "$")
        text = _BEFORE.sub("", text, count=1) if _BEFORE.match(text) else text
    return text if lines else re.sub(r"\s+(?=\^)", "", " ".join(text.split()))


def superscripts_as_powers(text: str) -> str:
    """`x²` as `x^2`, `x¹²` as `x^{12}`: NFKC alone would make `x2` and `x12` of them."""

    def power(found: re.Match[str]) -> str:
        plain = found[0].translate(_SUPERSCRIPTS)
        return f"^{plain}" if len(plain) == 1 else f"^{{{plain}}}"

    return re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻ⁿ]+", power, text)
