"""What `llm-distill stages` shows, read off the stages' own docstrings and fields."""

from __future__ import annotations

import inspect
import json
import sys

from pydantic_core import to_jsonable_python
from rich.markup import escape

from llm_distill.cli.display import console, make_table
from llm_distill.errors import ConfigError, nearest
from llm_distill.hints import Given
from llm_distill.pipeline.described import described, running_text
from llm_distill.pipeline.registry import find_stage, stage_names


def list_stages() -> None:
    """A line per stage."""
    table = make_table("stage", "gives", "what it does")
    for name in stage_names():
        stage = find_stage(name)
        if stage is not None:
            summary = (inspect.getdoc(stage) or "").partition("\n")[0]
            table.add_row(name, stage.output, escape(summary))
    out = console()
    out.print(table)
    out.print(f"a stage's settings: {Given().command('stages', 'generate')}")


def describe_stage(name: str) -> None:
    """A stage's docstring, the example rows of its file, and its settings.

    Raises:
        ConfigError: there is no such stage.
    """
    stage = find_stage(name)
    if stage is None:
        raise ConfigError(f"no stage '{name}'; {nearest(name, stage_names())}")
    out = console()
    out.print(f"[bold]{name}[/bold] (gives {stage.output})")
    out.print(running_text(stage), markup=False, soft_wrap=False)
    _, found, rows = (inspect.getdoc(sys.modules[stage.__module__]) or "").partition("\nin:")
    if found:
        out.print(f"\nin:{rows}", markup=False, style="dim")
    table = make_table("setting", "type", "default", "meaning")
    for setting in described(stage):
        table.add_row(
            setting.name, escape(setting.kind), escape(setting.default), escape(setting.meaning)
        )
    out.print(table)


def stages_as_json(name: str | None) -> None:
    """Every stage, or one, with its settings: `type` in words, as the table has it.

    Raises:
        ConfigError: there is no such stage.
    """
    if name is not None and find_stage(name) is None:
        raise ConfigError(f"no stage '{name}'; {nearest(name, stage_names())}")
    found = []
    for each in stage_names() if name is None else [name]:
        stage = find_stage(each)
        if stage is not None:
            about = running_text(stage)
            settings = [
                {
                    "name": setting.name,
                    "type": setting.kind,
                    "required": setting.required,
                    "default": to_jsonable_python(setting.value),
                    "about": setting.about,
                    "affects_result": setting.affects_result,
                }
                for setting in described(stage)
            ]
            found.append(
                {"stage": each, "gives": stage.output, "about": about, "settings": settings}
            )
    print(json.dumps({"stages": found}, indent=1, ensure_ascii=False))
