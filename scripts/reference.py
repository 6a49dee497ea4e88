"""Writes the tables of docs/reference: every key of a pipeline file, every setting of every stage.

    python -m scripts.reference

The text of pipeline-file.md is written by hand; only what is between its markers is replaced.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from llm_distill.engines.kinds import Kinds
from llm_distill.pipeline.described import Setting, described
from llm_distill.pipeline.registry import find_stage, stage_names
from llm_distill.pipeline.repeat import Repeat
from llm_distill.pipeline.schema import Header, ModelConfig
from llm_distill.stage import Stage

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
PIPELINE_FILE, STAGES = FOLDER / "pipeline-file.md", FOLDER / "stages.md"

BESIDE_THE_HEADER = (
    Setting("stages", "mapping of stages", "what is done, in order", required=True),
    Setting("extends", "text or list of text", "files that this one is merged over"),
    Setting("profiles", "mapping of settings", "changes that are chosen by name", {}),
)
"""The keys that are taken out of a file before its header is typed."""
STAGES_HEAD = """# The stages

Every stage with all its settings, from the types that check them (`make reference`; a test
compares). The same for one stage, with an example of its rows: `llm-distill stages NAME`. "Does
not change the result" means that a stage is not run again when the setting changes. What a file
has besides stages: [the pipeline file](pipeline-file.md).
"""


def main() -> None:
    """Write both pages."""
    PIPELINE_FILE.write_text(pipeline_file(PIPELINE_FILE.read_text()))
    STAGES.write_text(stages())


def pipeline_file(page: str) -> str:
    """The page with new tables between its markers."""
    tables = {
        "table: Header": table((*_outermost(Header), *BESIDE_THE_HEADER)),
        "table: ModelConfig": table(_outermost(ModelConfig)),
        "table: Stage": table((_KIND, *described(Stage))),
        "table: Repeat": table(described(Repeat)),
        "tables: engines": "\n\n".join(map(_engine, get_args(Kinds))),
    }
    for marker, text in tables.items():
        begin, end = f"<!-- {marker} -->\n", "<!-- end -->"
        before, found, rest = page.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PIPELINE_FILE}: no {begin.strip()} with {end} after it")
        page = f"{before}{begin}\n{text}\n\n{end}{after}"
    return page


_KIND = Setting("stage", "text", "the kind of stage, such as `generate`", required=True)


def _outermost(settings: type[BaseModel]) -> list[Setting]:
    return [setting for setting in described(settings) if "." not in setting.name]


def _engine(settings: type[BaseModel]) -> str:
    (kind,) = get_args(settings.model_fields["kind"].annotation)
    said = inspect.cleandoc(settings.__doc__ or "")
    own = [s for s in described(settings) if s.name != "kind" and not s.name.startswith("engine.")]
    return f"#### kind: {kind}\n\n{said}\n\n{table(own)}"


def stages() -> str:
    """The page of all stages that the package brings along."""
    parts = [STAGES_HEAD]
    for name in stage_names():
        stage = find_stage(name)
        if stage is None or not stage.__module__.startswith("llm_distill."):
            continue  # somebody else's
        summary = (inspect.getdoc(sys.modules[stage.__module__]) or "").partition("\n")[0]
        said = inspect.cleandoc(stage.__doc__ or "")
        gives = f"Gives {'rows' if stage.output == 'rows' else 'a model'}. {summary}"
        parts.append(f"## {name}\n\n{gives}\n\n{_escaped(said)}\n\n{table(described(stage))}\n")
    return "\n".join(parts)


def table(settings: Iterable[Setting]) -> str:
    """A Markdown table."""
    rows = [
        f"| `{s.name}` | {_cell(s.kind)} | {_default(s)} | {_cell(s.meaning)} |" for s in settings
    ]
    return "\n".join(["| setting | type | default | meaning |", "| --- | --- | --- | --- |", *rows])


def _default(setting: Setting) -> str:
    """As a pipeline file would write it."""
    if setting.default in ("", "required"):
        return setting.default
    value = setting.value
    if not (isinstance(value, str) and value):
        value = json.dumps(to_jsonable_python(value), ensure_ascii=False)
    return f"`{value}`".replace("|", "\\|").replace("\n", "\\n")


def _cell(text: str) -> str:
    return _escaped(text).replace("|", "\\|").replace("\n", " ")


def _escaped(text: str) -> str:
    """Tags such as <ans> would be taken for HTML; what is in backquotes is left."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else p.replace("<", "&lt;") for p in parts)


if __name__ == "__main__":
    main()
