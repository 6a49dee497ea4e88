"""Figures about how likely models find two continuations of one prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.evaluation.result_rows import Kind
from llm_distill.evaluation.results import Figure, FigureTable, name_of_all
from llm_distill.methods.paired_perplexity import Continued, gap, perplexity, win
from llm_distill.methods.statistics import Estimate, bootstrap, paired_bootstrap

Pairs = Mapping[str, tuple[Continued, Continued]]
"""By item, the preferred continuation and the other."""
GAP, WINS = "nats a token less", "preferred is likelier"


def paired_tables(
    found: Mapping[str, Pairs], by: str, groups: Mapping[str, str]
) -> list[FigureTable]:
    """Of each model its perplexities, gap and share of wins, and differences from the first's.

    Args:
        found: by model.
        by: the name of the groups; empty without any.
        groups: by item, its group.
    """
    values = sorted(set(groups.values()))
    parts: list[tuple[dict[str, str], str | None]] = [({}, None)]
    if by:
        parts = [({by: name_of_all(values)}, None), *(({by: value}, value) for value in values)]
    figures, differences = [], []
    (_, first), *_ = found.items()
    for labels, value in parts:
        for model, pairs in found.items():
            there = [i for i in pairs if value is None or groups[i] == value]
            of = {"model": model, **labels}
            if there:
                figures += _of_model(of, [pairs[i] for i in there])
            both = [i for i in there if i in first]
            if both and pairs is not first:
                differences += _of_two(of, [first[i] for i in both], [pairs[i] for i in both])
    tables = [FigureTable("perplexity of paired texts", tuple(figures), across="of")]
    if differences:
        title = f"difference from {next(iter(found))}"
        tables.append(FigureTable(title, tuple(differences), across="of"))
    return tables


def _of_model(
    labels: Mapping[str, str], pairs: Sequence[tuple[Continued, Continued]]
) -> list[Figure]:
    n = len(pairs)

    def figure(of: str, found: Estimate, kind: Kind = "number") -> Figure:
        ends = found.low, found.high
        return Figure({**labels, "of": of}, found.value, *ends, n, kind=kind)

    return [
        figure("preferred", perplexity([pair[0] for pair in pairs])),
        figure("other", perplexity([pair[1] for pair in pairs])),
        figure(GAP, bootstrap([gap(*pair) for pair in pairs]), "difference"),
        figure(WINS, bootstrap([win(*pair) for pair in pairs]), "share"),
    ]


def _of_two(
    labels: Mapping[str, str],
    first: Sequence[tuple[Continued, Continued]],
    second: Sequence[tuple[Continued, Continued]],
) -> list[Figure]:
    """Of the same items."""
    gaps = paired_bootstrap([gap(*pair) for pair in first], [gap(*pair) for pair in second])
    wins = paired_bootstrap([win(*pair) for pair in first], [win(*pair) for pair in second])
    n = len(first)
    return [
        Figure({**labels, "of": GAP}, gaps.value, gaps.low, gaps.high, n, kind="difference"),
        Figure({**labels, "of": WINS}, wins.value, wins.low, wins.high, n, kind="points"),
    ]
