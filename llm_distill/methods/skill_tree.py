"""How a skill's tree grows and how many rows each subskill gets: DataEnvGym's policy. Pure.

As the authors' code has it (arXiv 2410.06215, `FillBalancedSkillTreePolicy`): new subskills and
"no rows for any" take turns until there are enough of them; then each is filled up. It looks at how
many rows there are, and never at what the student got right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Action = Literal["explore", "rest", "fill"]
"""explore: add subskills, with rows for these. rest: no rows. fill: rows up to the most."""


@dataclass(frozen=True)
class Limits:
    """The policy's settings.

    Attributes:
        new: Subskills that an exploration adds.
        new_rows: Rows for each of them.
        max_subskills: With so many there are no more explorations; the last one may go beyond.
        max_rows: Of a subskill over all rounds.
        max_step: Of a subskill in one action.
    """

    new: int
    new_rows: int
    max_subskills: int
    max_rows: int
    max_step: int


@dataclass(frozen=True)
class Tree:
    """A skill's subskills in the order in which they were added.

    made: by subskill, how many rows there are. last: the last action; None before the first.
    """

    made: Mapping[str, int] = field(default_factory=dict)
    last: Action | None = None


def next_action(tree: Tree, limits: Limits) -> Action:
    """What comes next: exploring first, then turns, and filling once there are enough."""
    if tree.last is None:
        return "explore"
    if len(tree.made) >= limits.max_subskills:
        return "fill"
    return "rest" if tree.last == "explore" else "explore"


def grown(
    tree: Tree, action: Action, new: Sequence[str], limits: Limits
) -> tuple[Tree, dict[str, int]]:
    """The tree after an action, and the rows that each of its subskills gets by it.

    Args:
        tree: before it.
        action: what is done.
        new: for explore, names of subskills; those that it has already, and what is over
            `limits.new`, are left out.
        limits: of the policy.
    """
    rows = dict.fromkeys(tree.made, 0)
    if action == "explore":
        added = [name for name in dict.fromkeys(new) if name not in tree.made]
        rows |= dict.fromkeys(added[: limits.new], limits.new_rows)
    elif action == "fill":
        for name, count in tree.made.items():
            rows[name] = min(max(0, limits.max_rows - count), limits.max_step)
    made = {name: tree.made.get(name, 0) + n for name, n in rows.items()}
    return Tree(made, action), rows
