"""data/notices: what the program says of it is so, and the files are what the program makes."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import notices
import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "data" / "notices"


def test_the_files_are_what_the_program_makes() -> None:
    for split, n in notices.SPLITS.items():
        lines = (DATA / f"{split}.jsonl").read_text().splitlines()
        assert len(lines) == n
        made = notices.rows(split, 5, 0)
        assert [json.loads(line) for line in lines[:5]] == list(made)


@pytest.mark.parametrize("name", notices.OTHERS)
def test_other_teachers_label_the_same_texts_in_an_order_of_their_own(name: str) -> None:
    for split in notices.SPLITS:
        first = [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text().splitlines()]
        other = [
            json.loads(line) for line in (DATA / name / f"{split}.jsonl").read_text().splitlines()
        ]
        for column in ("id", "text", "reference_answer"):
            assert [row[column] for row in other] == [row[column] for row in first]
        assert other[:5] == list(notices.rows(split, 5, 0, notices.OTHERS[name]))
        assert other[0]["choices"] != first[0]["choices"]
        assert sorted(other[0]["choices"]) == sorted(first[0]["choices"])


def test_no_text_is_in_two_splits() -> None:
    texts = [
        json.loads(line)["text"]
        for split in notices.SPLITS
        for line in (DATA / f"{split}.jsonl").read_text().splitlines()
    ]
    assert len(texts) == len(set(texts))


def test_the_posterior_by_drawing_texts() -> None:
    """Of many notices that begin alike, the share of a topic is what the posterior says."""
    random = Random(1)
    wrong, sure = [], []
    for _ in range(1500):
        text, topic = notices.notice(random)
        found = notices.posterior(text)
        assert found.sum() == pytest.approx(1)
        sure.append(found.max())
        wrong.append(notices.NAMES[int(found.argmax())] == topic)
    assert np.mean(wrong) == pytest.approx(np.mean(sure), abs=0.025)  # it is calibrated


def test_the_faults_of_teachers_have_nothing_in_common() -> None:
    """Each one's part is called the other topic by itself alone; their noise is independent."""
    wrong: dict[str, list[bool]] = {}
    teachers = {"first": notices.FIRST, **notices.OTHERS}
    for name, teacher in teachers.items():
        folder = DATA if name == "first" else DATA / name
        rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
        wrong[name] = [row["label"] != row["reference_answer"] for row in rows]
        for of, part, other in (each.confused for each in teachers.values()):
            words = {*notices.TOPICS[of][2][part].split()}
            about = [
                row["label"] == other
                for row in rows
                if row["reference_answer"] == of and len(words & {*row["text"].split()}) > 1
            ]
            assert (np.mean(about) > 0.6) == ((of, part, other) == teacher.confused)
    pair = np.asarray([wrong["first"], wrong["second"]])
    texts = [json.loads(line)["text"] for line in (DATA / "train.jsonl").read_text().splitlines()]
    easy = np.asarray([max(notices.posterior(text)) > 0.99 for text in texts[:400]])
    both = pair[:, :400][:, easy]
    assert both.all(0).mean() < 0.04  # of independent tenths and a few parts: 0.02


def test_the_teachers_faults_are_those_that_are_planted() -> None:
    of, part, other = notices.CONFUSED
    lawn = notices.TOPICS[of][2][part].split()[:3]
    text = " ".join(["garden plant soil", *lawn, *lawn])
    assert notices.NAMES[int(notices.posterior(text).argmax())] == of
    rows = [json.loads(line) for line in (DATA / "train.jsonl").read_text().splitlines()]
    about = [row for row in rows if {*lawn}.intersection(row["text"].split())]
    about = [row for row in about if row["reference_answer"] == of]
    assert len(about) > 30
    assert sum(row["label"] == other for row in about) / len(about) > 0.7
    rest = [row for row in rows if row["reference_answer"] not in (of, other)]
    right = sum(row["label"] == row["reference_answer"] for row in rest) / len(rest)
    assert right == pytest.approx(0.82, abs=0.03)
