"""What docs/coming-from.md says of this tool exists: commands, options, stages, settings, names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

import llm_distill as ld
from llm_distill.cli.main import app
from llm_distill.engines.kinds import settings_class
from llm_distill.pipeline.described import described
from llm_distill.pipeline.registry import find_stage
from llm_distill.pipeline.schema import Header, ModelConfig

PAGE = Path(__file__).parents[1] / "docs" / "coming-from.md"
OURS = [
    cell for cell in re.findall(r"^\|.*\| (.*) \|$", PAGE.read_text(), re.MULTILINE) if "`" in cell
]


def commands() -> list[str]:
    """Also those that the tutorial has its readers type."""
    tutorial = (PAGE.parent / "tutorial.md").read_text()
    shell = "".join(re.findall(r"```bash\n(.*?)```", tutorial, re.DOTALL))
    typed = re.findall(r"^llm-distill (.*)$", shell, re.MULTILINE)
    assert len(typed) > 4
    return [*typed, *(t for cell in OURS for t in re.findall(r"`llm-distill ([^`]+)`", cell))]


@pytest.mark.parametrize("said", sorted(set(commands())))
def test_a_command_is_there_with_its_options(said: str) -> None:
    group: object = typer.main.get_command(app)
    words = said.split()
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    there = {option for given in group.params for option in given.opts}  # type: ignore[attr-defined]
    arguments = [p for p in group.params if p.param_type_name == "argument"]  # type: ignore[attr-defined]
    assert {word for word in words if word.startswith("-")} <= there
    values = sum(word.startswith("-") and word not in FLAGS for word in words)
    n_plain = sum(not word.startswith("-") for word in words) - values
    assert sum(a.required for a in arguments) <= n_plain <= len(arguments)


FLAGS = ("--deep", "--merge", "--retry-failed")


def test_stages_settings_engines_and_names_are_there() -> None:
    named = [text for cell in OURS for text in re.findall(r"`([^`]+)`", cell)]
    dotted = [text.split(".", 1) for text in named if re.fullmatch(r"[a-z_]+(\.[a-z_]+)+", text)]
    assert len(dotted) > 60
    for owner, setting in dotted:
        if owner == "ld":
            assert setting in ld.__all__
            continue
        kind = ModelConfig if owner == "model" else find_stage(owner) or settings_class(owner)
        assert setting in {each.name for each in described(kind)}, f"{owner}.{setting}"
    stages = [s for cell in OURS for s in re.findall(r"(?:a stage|stages|,) `([a-z_]+)`", cell)]
    assert len(stages) > 15
    assert [name for name in stages if find_stage(name) is None] == []
    kinds = [text.removeprefix("kind: ") for text in named if text.startswith("kind: ")]
    assert [settings_class(kind).model_fields["kind"].annotation for kind in kinds]
    assert all(settings_class(kind) is not settings_class(None) for kind in kinds)
    assert {"name", "report_to"} <= set(Header.model_fields)
