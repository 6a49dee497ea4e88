"""The methods that a person's own data can be given to: what each does, needs, and divides."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from llm_distill.starter.data import Data
from llm_distill.starter.models import Served

MOST_TESTED, MOST_VALIDATED, MOST_SEEDS = 500, 300, 50


class Method(StrEnum):
    """What `--method` takes."""

    SFT = "sft"
    ARTE = "arte"
    STAT = "stat"
    ALM = "alm"

    @property
    def about(self) -> str:
        return {
            "sft": "the teacher answers, what is right is kept, the student is trained on it",
            "arte": "the teacher is aligned with what helps this student, then writes its data",
            "stat": "the skills that the student lacks, and training on questions that need them",
            "alm": "the student learns the teacher's likelihoods, although their tokenizers differ",
        }[self.value]

    @property
    def base(self) -> str | None:
        """The shipped file that its own extends."""
        files = {"arte": "arte.yaml", "stat": "stat_sel.yaml", "alm": "alm.yaml"}
        return files.get(self.value)

    def sizes(self, n: int, test: float) -> Mapping[str, int]:
        """How many of `n` rows each part gets. test: the share of the test."""
        n_test = min(MOST_TESTED, max(2, round(n * test)))
        if self in (Method.SFT, Method.ALM):
            return {"train": n - n_test, "test": n_test}
        share = 0.25 if self is Method.STAT else 0.3
        n_validation = min(MOST_VALIDATED, round(n * share))
        left = n - n_test - n_validation
        if self is Method.STAT:
            return {"train": left, "validation": n_validation, "test": n_test}
        return {"seeds": min(MOST_SEEDS, left), "validation": n_validation, "test": n_test}

    @property
    def fewest(self) -> int:
        """Rows of which it can make something."""
        return 10 if self in (Method.SFT, Method.ALM) else 30


def why_not(method: Method, data: Data, teacher: object) -> str | None:
    """Why a method can do nothing with these data or this teacher, and what can; None: it can."""
    if isinstance(teacher, Served) and method is Method.ARTE:
        return (
            "arte trains the teacher, and a server gives no weights; name a folder or a name on "
            "the Hub as --teacher, or take --method sft or stat"
        )
    if isinstance(teacher, Served) and method is Method.ALM:
        return (
            "alm reads the teacher's likelihood of every token, which a server does not give; name "
            "a folder or a name on the Hub as --teacher, or take --method sft or stat"
        )
    if method is not Method.SFT and not data.has_answers:
        return (
            f"{method} needs right answers, with which its exams compare, and there are none in "
            "the data; name their column (--answer COLUMN), or take --method sft, for which the "
            "teacher writes them"
        )
    if method is not Method.SFT and data.kind.compared_as is None:
        return (
            f"{method} needs answers that can be compared, and these are free text; take --method "
            "sft, which has them graded, or say what they are: --answers number, choice or text"
        )
    if len(data.items) < method.fewest:
        return f"{method} needs {method.fewest} rows at least, and {len(data.items)} are there"
    return None
