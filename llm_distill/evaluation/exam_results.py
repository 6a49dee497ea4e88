"""From judged answers to tables: accuracy with its interval, by model and number of examples."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any

from llm_distill.evaluation.result_rows import Difference, ExamRow
from llm_distill.evaluation.results import Breakdown, Results, group_name
from llm_distill.methods.answers import AnswerKind
from llm_distill.methods.sampled_answers import budgets, majority, pass_at_k
from llm_distill.methods.statistics import bootstrap, mcnemar, paired_bootstrap, wilson_interval

Sitting = tuple[str, int]
"""Model and number of worked examples."""


@dataclass
class _Item:
    """The answers of one sitting to one item, in the order in which they were sampled."""

    right: list[bool] = field(default_factory=list)
    answers: list[str | None] = field(default_factory=list)

    @property
    def mean(self) -> float:
        return fmean(self.right)


@dataclass
class _Sitting:
    items: dict[str, _Item] = field(default_factory=lambda: defaultdict(_Item))
    parse_failures: int = 0
    truncated: int = 0
    errors: int = 0
    tokens: int = 0
    forms: Counter[str] | None = None


class ExamResults:
    """Counts the answers of models to the same items, as they come.

    An answer that the engine failed to give (`error`) counts as wrong, and is also counted
    separately: leaving it out would compare models on different items. With several answers to an
    item its accuracy is their mean (avg@k), and the interval is over items.

    Args:
        by: Columns to break the figures down by.
        kind: When two answers count as the same one.
    """

    def __init__(self, by: Sequence[str] = (), kind: AnswerKind = "exact") -> None:
        self._kind = kind
        self._sittings: dict[Sitting, _Sitting] = defaultdict(_Sitting)
        # column -> value -> items, as a dict for its order
        self._groups: dict[str, dict[str, dict[str, None]]] = {c: defaultdict(dict) for c in by}

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of `evaluate`; a list in a `by` column counts for each of its values."""
        sitting = self._sittings[row["model"], row["shots"]]
        item = sitting.items[row["parent_id"]]
        item.right.append(bool(row["is_correct"]))
        item.answers.append(row["answer"])
        failed = row["error"] is not None
        sitting.errors += failed
        sitting.parse_failures += row["answer"] is None and not failed
        sitting.truncated += row["finish_reason"] == "length"
        sitting.tokens += row["n_completion_tokens"]
        if "answer_form" in row:
            sitting.forms = sitting.forms or Counter()
            sitting.forms.update(filter(None, [row["answer_form"]]))
        for column, groups in self._groups.items():
            value = row[column]
            for name in value if isinstance(value, list) else [value]:
                groups[group_name(name)][row["parent_id"]] = None

    def measured(self) -> Results:
        """A row for each sitting, each model's difference from the first, and both by column."""
        return Results(
            exam=tuple(self._result(*place, s) for place, s in self._sittings.items()),
            differences=self._differences(None),
            by=tuple(self._broken_down(*grouped) for grouped in self._groups.items()),
        )

    def _broken_down(self, column: str, groups: Mapping[str, Iterable[str]]) -> Breakdown:
        return Breakdown(
            column,
            tuple(
                _row(model, shots, _of(sitting, items), group=name)
                for (model, shots), sitting in self._sittings.items()
                for name, items in groups.items()
            ),
            tuple(
                replace(difference, group=name)
                for name, items in groups.items()
                for difference in self._differences(items)
            ),
        )

    def _result(self, model: str, shots: int, sitting: _Sitting) -> ExamRow:
        items = list(sitting.items.values())
        return _row(
            model,
            shots,
            items,
            parse_failures=sitting.parse_failures,
            truncated=sitting.truncated,
            errors=sitting.errors,
            tokens=sitting.tokens,
            forms=None if sitting.forms is None else dict(sitting.forms.most_common()),
            means={
                column: fmean(fmean(i.mean for i in _of(sitting, g)) for g in groups.values())
                for column, groups in self._groups.items()
                if groups
            },
            **self._sampled(items),
        )

    def _sampled(self, items: Sequence[_Item]) -> dict[str, Any]:
        """Of several answers to each item: pass@k for some k, and the majority's accuracy."""
        n = len(items[0].right)
        if n == 1:
            return {}
        chosen = [(item, majority(item.answers, self._kind)) for item in items]
        return {
            "samples": n,
            "pass_at": {
                str(k): fmean(pass_at_k(n, sum(item.right), k) for item in items)
                for k in budgets(n)
            },
            "majority": fmean(at is not None and item.right[at] for item, at in chosen),
        }

    def _differences(self, items: Iterable[str] | None) -> tuple[Difference, ...]:
        """items: the ids that count; None: all."""
        first, *others = dict.fromkeys(model for model, _ in self._sittings)
        shots = dict.fromkeys(shots for _, shots in self._sittings)
        return tuple(self._difference(first, model, n, items) for model in others for n in shots)

    def _difference(
        self, baseline: str, model: str, shots: int, items: Iterable[str] | None
    ) -> Difference:
        before, after = self._sittings[baseline, shots].items, self._sittings[model, shots].items
        ids = list(before if items is None else items)
        found = paired_bootstrap([before[i].mean for i in ids], [after[i].mean for i in ids])
        single = all(len(before[i].right) == len(after[i].right) == 1 for i in ids)
        return Difference(
            model=model,
            baseline=baseline,
            shots=shots,
            difference=found.value,
            low=found.low,
            high=found.high,
            n=len(ids),
            # McNemar's test is of one answer each.
            p_value=mcnemar([before[i].right[0] for i in ids], [after[i].right[0] for i in ids])
            if single
            else None,
        )


def _of(sitting: _Sitting, ids: Iterable[str]) -> list[_Item]:
    return [sitting.items[identity] for identity in ids]


def _row(model: str, shots: int, items: Sequence[_Item], **more: Any) -> ExamRow:
    """Accuracy with its interval: the bootstrap's over items, where they have several answers.

    Wilson's where every item has one answer, or only right or only wrong ones: there is nothing
    to resample then.
    """
    means = [item.mean for item in items]
    if all(mean in (0.0, 1.0) for mean in means):
        found = wilson_interval(round(sum(means)), len(means))
    else:
        found = bootstrap(means)
    return ExamRow(
        model=model,
        shots=shots,
        accuracy=found.value,
        low=found.low,
        high=found.high,
        n=len(items),
        **more,
    )
