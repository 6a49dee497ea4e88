"""A list of skills as YAML that people read and edit: names by task, or names alone.

word_problems:
- addition
- subtraction
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import yaml

from llm_distill.errors import DataError
from llm_distill.methods.skills import canonical, what_is_wrong

FORM = "expected a mapping of each task to a list of names, or a list if rows have no task"
HEAD = """\
# Skills by task, the most frequent first. To edit the list, copy this file out of the workspace and
# give the copy to a stage `load_skills`.
"""


def write_skill_list(lists: Mapping[str, Sequence[str]]) -> str:
    """The text that `read_skill_list` reads."""
    values = {task: list(skills) for task, skills in lists.items()}
    whole = values[""] if list(values) == [""] else values
    return HEAD + yaml.safe_dump(whole, sort_keys=False, allow_unicode=True)


def read_skill_list(text: str, where: str) -> dict[str, list[str]]:
    """Each task's skills, canonical, in the order of the text.

    Args:
        text: the YAML.
        where: the file, for messages.

    Raises:
        DataError: with every problem and its line: it is not YAML or has another form, or names
            cannot be skills or are given twice.
    """
    problems: list[str] = []
    lists: dict[str, list[str]] = {}
    for task, entries in _tasks(_root(text, where), where, problems):
        if task in lists:
            problems.append(f"{where}:{entries.start_mark.line + 1}: task '{task}' is given twice")
        else:
            lists[task] = _names(entries, task, where, problems)
    if problems:
        raise DataError("\n".join(problems))
    return lists


def _root(text: str, where: str) -> yaml.Node:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise DataError(f"{where}:{line}: not YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split()) or "nested too deeply"
        raise DataError(f"{where}: not YAML: {reason}") from error
    if root is None:
        raise DataError(f"{where}: it is empty; {FORM}")
    return root


def _tasks(root: yaml.Node, where: str, problems: list[str]) -> list[tuple[str, yaml.SequenceNode]]:
    """Tasks and their lists."""
    if isinstance(root, yaml.SequenceNode):
        return [("", root)]
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    found = [
        (str(key.value), value)
        for key, value in pairs
        if isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.SequenceNode)
    ]
    if len(found) < len(pairs) or not pairs:
        wrong = (value for _, value in pairs if not isinstance(value, yaml.SequenceNode))
        line = next(wrong, root).start_mark.line + 1
        problems.append(f"{where}:{line}: {FORM}")
    return found


def _names(entries: yaml.SequenceNode, task: str, where: str, problems: list[str]) -> list[str]:
    lines: dict[str, int] = {}
    for entry in entries.value:
        line = entry.start_mark.line + 1
        if not isinstance(entry, yaml.ScalarNode):
            problems.append(f"{where}:{line}: a skill is a short name, not a list or a mapping")
            continue
        wrong = what_is_wrong(entry.value)
        name = canonical(entry.value)
        if not entry.tag.endswith(":str"):
            kind = entry.tag.rpartition(":")[2]
            wrong = f"'{entry.value}' is read as {kind}; put quotes around it, or leave it out"
        elif wrong is None and name in lines:
            wrong = f"'{entry.value}' is already in line {lines[name]}, as '{name}'"
        if wrong is not None:
            problems.append(f"{where}:{line}: {wrong}")
        lines.setdefault(name, line)
    if not entries.value:
        of = f"task '{task}'" if task else "the list"
        problems.append(f"{where}:{entries.start_mark.line + 1}: {of} has no skills")
    return list(lines)
