"""Private values are removed from what is shown to others."""

from __future__ import annotations

import pytest

from llm_distill.publish.scrub import scrubbed


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("/home/ann/data/seeds.jsonl", "seeds.jsonl"),
        ("/home/ann smith/my data/seeds.jsonl", "seeds.jsonl"),
        ("~/data/seeds.jsonl", "seeds.jsonl"),
        ("C:\\Users\\ann\\seeds.jsonl", "seeds.jsonl"),
        ("file:///srv/seeds.jsonl", "seeds.jsonl"),
        ("/srv/models/", "models"),
        ("data/word_problems", "data/word_problems"),
        ("org/model", "org/model"),
        ("https://ann:pw@host/v1", "https://host/v1"),
        ("https://host/v1", "https://host/v1"),
        ("/", "/"),
        ("\n/", "\n/"),
        ("/ by 2", "/ by 2"),
        (0.5, 0.5),
        (None, None),
    ],
)
def test_paths_keep_their_last_part_only(given, expected):
    assert scrubbed({"a": [given]}, {}) == {"a": [expected]}


def test_values_of_the_environment_become_names_the_longest_first():
    environment = {"A": "projects", "B": "projects/mine", "SHORT": "abc", "not a name": "whatever!"}
    text = "s3 projects/mine and projects, abc, whatever!"
    assert scrubbed(text, environment) == "s3 ${B} and ${A}, abc, whatever!"
