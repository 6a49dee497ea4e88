"""What judges say of a row, as its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_distill.judging.answers import Compared, Graded, label_of
from llm_distill.methods.verdicts import mean_grade, most_say
from llm_distill.rows.columns import Row


def graded_columns(criteria: Sequence[str], by_judge: Mapping[str, Sequence[Graded]]) -> Row:
    """by_judge: of each judge its grades of the row, one for each criterion."""
    grades = {
        name: dict(zip(criteria, (each.grade for each in found), strict=True))
        for name, found in by_judge.items()
    }
    replies = [each.reply for found in by_judge.values() for each in found]
    return {
        "scores": {
            criterion: mean_grade([of[criterion] for of in grades.values()])
            for criterion in criteria
        },
        "judgements": grades,
        "judge_replies": [reply for reply in replies if reply is not None],
    }


def compared_columns(by_judge: Mapping[str, Compared]) -> Row:
    """by_judge: of each judge its verdict on the row's pair."""
    return {
        "verdict": most_say([each.winner for each in by_judge.values()]),
        "verdict_swapped": most_say([each.swapped for each in by_judge.values()]),
        "judgements": {
            name: {"verdict": each.winner, "swapped": each.swapped}
            for name, each in by_judge.items()
        },
        "judge_replies": [reply for each in by_judge.values() for reply in each.replies],
    }


def why_none(by_judge: Mapping[str, Sequence[Graded | Compared]]) -> str | None:
    """Why nobody's verdict is there, of a criterion at least; None where each has one."""
    said = list(zip(*by_judge.values(), strict=True))
    without = [of for of in said if all(label_of(each) is None for each in of)]
    if not without:
        return None
    failed = [each.error for of in without for each in of if each.error is not None]
    return failed[0] if failed else "no verdict of a judge can be read"
