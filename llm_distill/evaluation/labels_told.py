"""What became of the rows that a teacher was to label, in words and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_distill.errors import DataError, counted
from llm_distill.evaluation.label_figures import label_shares, mean_probabilities
from llm_distill.evaluation.results import shown
from llm_distill.rows.columns import Row


@dataclass
class Told:
    """Counts of rows and answers.

    Attributes:
        names: The labels of the list.
        several: A row may have several of them.
        labels: Rows with each.
        unreadable: Rows of which no answer can be read.
        abstained: Rows of which the teacher says that no label fits, where one is asked for.
        none: The same where any number is.
        off_list: Answers with names that the teacher made up.
        cut: Answers that ended before a label was whole.
        means: Of each answer its mean probability before calibration, where there was one.
    """

    names: Sequence[str]
    several: bool
    labels: Counter[str] = field(default_factory=Counter)
    unreadable: int = 0
    abstained: int = 0
    none: int = 0
    off_list: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    means: list[float] | None = None

    def count(self, given: Row) -> None:
        """A row, as far as the teacher has answered."""
        if given.get("error") is not None:
            return
        if "choices" not in given:
            self.unreadable += 1
        elif self.several:
            self.labels.update(given["labels"])
            self.none += not given["labels"]
        elif given["label"] is None:
            self.abstained += 1
        else:
            self.labels[given["label"]] += 1

    def check(self, stage: str, most_tokens: int) -> None:
        """Raises DataError: no row has a label, nor a list without one. stage: of the rows."""
        if self.labels or self.none:
            return
        raise DataError(
            f"no row of '{stage}' got a label of the list: {counted(self.unreadable, 'row')} "
            f"without one in any answer (named instead: {self._most()}), "
            f"{self.abstained} of which the teacher says that none fits; "
            f"{self._cut(most_tokens) + ', or ' if self.cut else ''}check the template"
        )

    def warnings(self, most_tokens: int) -> Iterator[str]:
        """What a user should know, one after another. most_tokens: that an answer may have."""
        never = [name for name in self.names if not self.labels[name]]
        if not self.labels and self.none:
            yield (
                f"no label fits any text, says the teacher ({counted(self.none, 'text')}): if one "
                "should, check the template and the definitions"
            )
        elif never:
            yield (
                f"no text has the label {', '.join(never)}: add texts of it, sharpen its "
                "definition, or leave it out of the list"
            )
        if self.off_list:
            n = self.off_list.total()
            others = "" if self.several else ", or set abstain, or with vLLM constrain"
            yield (
                f"{counted(n, 'answer')} {'names' if n == 1 else 'name'} what is not in the list: "
                f"{self._most()}; such a name is no label: add it to the list, or say in a "
                f"definition where it belongs{others}"
            )
        if self.cut:
            yield self._cut(most_tokens)
        if self.unreadable and self.several:
            yield (
                f"{counted(self.unreadable, 'row')} without an answer that can be read: no labels "
                "(null), which is not the same as none of them"
            )

    def figures(self, choices: Sequence[str], n_rows: int) -> dict[str, Any]:
        """For the metrics. choices: all that could be answered."""
        tables = [label_shares(self.labels, self.names, n_rows)] if n_rows else []
        if self.means is not None:
            tables.append(mean_probabilities(choices, self.means))
        return {
            "abstained": self.abstained,
            "unreadable": self.unreadable,
            "labels": dict(self.labels.most_common()),
            **(shown(*tables) if n_rows else {}),
        }

    def _most(self) -> str:
        found = self.off_list.most_common(5)
        return ", ".join(f"{name!r} {count}" for name, count in found) or "none"

    def _cut(self, most_tokens: int) -> str:
        are = "was" if self.cut == 1 else "were"
        return (
            f"{counted(self.cut, 'answer')} {are} cut before a label was whole, which may be the "
            f"beginning of another: raise sampling.max_tokens ({most_tokens})"
        )
