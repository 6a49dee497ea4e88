"""The texts that reward models read."""

from __future__ import annotations

import subprocess
import sys

from llm_distill.engines.process_reward.format import (
    MARK,
    conversation,
    fill_marks,
    one_answer,
    plain_text,
)


def test_a_step_a_turn_the_first_after_the_question() -> None:
    assert conversation("3 + 4 + 2?", ["3 + 4 = 7.", "7 + 2 = 9."]) == [
        {"role": "user", "content": "3 + 4 + 2? 3 + 4 = 7."},
        {"role": "assistant", "content": "+"},
        {"role": "user", "content": "7 + 2 = 9."},
        {"role": "assistant", "content": "+"},
    ]


def test_plain_text_has_each_verdict_on_a_line() -> None:
    assert plain_text("3 + 4?", ["Add.", "It is 7."], "good") == (
        "3 + 4?\nAdd.\ngood \nIt is 7.\ngood \n"
    )


def test_one_answer_has_a_separator_after_each_step() -> None:
    messages = one_answer("3 + 4?", ["Add.", "It is 7."], "<extra_0>")
    assert messages == [
        {"role": "user", "content": "3 + 4?"},
        {"role": "assistant", "content": "Add.<extra_0>It is 7.<extra_0>"},
    ]
    assert one_answer("3 + 4?", ["Add."], "|", "Think.")[0] == {
        "role": "system", "content": "Think.",
    }  # fmt: skip


def test_marks_are_filled_and_found() -> None:
    text, ends = fill_marks(f"a{MARK}bc{MARK}", "good")
    assert text == "agoodbcgood"
    assert [text[:end] for end in ends] == ["agood", "agoodbcgood"]


def test_who_renders_a_text_needs_nothing_heavy() -> None:
    code = (
        "import sys; from llm_distill.engines.process_reward.format import conversation; "
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
