"""A skill's tree: against the authors' example by hand, and what it never looks at."""

from __future__ import annotations

from llm_distill.methods.skill_tree import Limits, Tree, grown, next_action

LIMITS = Limits(new=2, new_rows=30, max_subskills=4, max_rows=100, max_step=50)


def played(limits: Limits, steps: int, named: int = 99) -> list[tuple[str, dict[str, int]]]:
    """Actions and rows, with a teacher who always has `named` more names."""
    tree, found, given = Tree(), [], 0
    for _ in range(steps):
        action = next_action(tree, limits)
        new = [f"part {given + i}" for i in range(named)]
        before = len(tree.made)
        tree, rows = grown(tree, action, new, limits)
        given += len(tree.made) - before
        found.append((action, rows))
    return found


def test_it_explores_and_rests_in_turn_and_then_fills() -> None:
    found = played(LIMITS, 7)
    assert [action for action, _ in found] == [
        "explore", "rest", "explore", "fill", "fill", "fill", "fill"
    ]  # fmt: skip
    a, b, c, d = (f"part {i}" for i in range(4))
    assert [rows for _, rows in found] == [
        {a: 30, b: 30},
        {a: 0, b: 0},
        {a: 0, b: 0, c: 30, d: 30},
        {a: 50, b: 50, c: 50, d: 50},  # 100 - 30 is more than a step may have
        {a: 20, b: 20, c: 20, d: 20},
        *[{a: 0, b: 0, c: 0, d: 0}] * 2,  # full: nothing more, whatever the student lacks
    ]


def test_no_subskill_goes_over_its_most() -> None:
    for most, step in ((100, 50), (90, 7), (30, 200), (10, 5)):
        limits = Limits(2, 30, 3, most, step)
        totals: dict[str, int] = {}
        for action, rows in played(limits, 60):
            for name, n in rows.items():
                totals[name] = totals.get(name, 0) + n
                assert n <= (30 if action == "explore" else step)
        assert len(totals) == 4  # the last exploration may go beyond
        assert all(n == max(most, 30) for n in totals.values())  # an exploration does not look


def test_what_was_really_made_is_filled_up() -> None:
    tree = Tree({"a": 12, "b": 40}, "fill")  # of 50 planned rows each, 38 and 10 were lost
    _, rows = grown(tree, "fill", (), Limits(2, 30, 2, 50, 50))
    assert rows == {"a": 38, "b": 10}


def test_names_that_it_has_and_too_many_are_left_out() -> None:
    tree = Tree({"a": 5}, "rest")
    after, rows = grown(tree, "explore", ["a", "b", "b", "c", "d"], LIMITS)
    assert rows == {"a": 0, "b": 30, "c": 30}
    assert after.made == {"a": 5, "b": 30, "c": 30}
    nothing, rows = grown(Tree(), "explore", [], LIMITS)
    assert (rows, next_action(nothing, LIMITS)) == ({}, "rest")
