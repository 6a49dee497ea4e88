"""Commands that messages show: they work when pasted into the shell where the message was read.

What was given on the command line is kept in the environment, which the processes that do a
stage's work have too.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PROGRAM = "llm-distill"
GIVEN = "LLM_DISTILL_GIVEN"
DEFAULT_WORKSPACE = Path("data")
THIS_STAGE = "<this stage>"
"""For the stage whose work raises an error; the run, which knows its name, puts it in."""


@dataclass(frozen=True)
class Given:
    """What a command was given. file, profile, assignments: as `run` takes them."""

    file: str | None = None
    profile: str | None = None
    assignments: Sequence[str] = ()
    workspace: str | None = None

    def remember(self) -> None:
        """For messages of this process and of those that it starts."""
        os.environ[GIVEN] = json.dumps(asdict(self))

    def command(self, *words: str, of_file: bool = False) -> str:
        """`llm-distill run 'my file.yaml' --set n=5 --workspace W --until drafts`.

        words: the command, its arguments and further options.
        of_file: whether it takes the pipeline file first, with its profile and assignments.
        """
        line = [PROGRAM, *words]
        if of_file:
            settings = ["--profile", self.profile] if self.profile else []
            settings += [word for text in self.assignments for word in ("--set", text)]
            line[2:2] = [self.file or "FILE", *settings]
        if self.workspace is not None and Path(self.workspace) != DEFAULT_WORKSPACE:
            line += ["--workspace", self.workspace]
        return shlex.join(line).replace(shlex.quote(THIS_STAGE), THIS_STAGE)


def given() -> Given:
    """What this process, or the one that started it, was given; nothing where it is a library."""
    text = os.environ.get(GIVEN)
    return Given(**json.loads(text)) if text else Given()


def hint(*words: str, of_file: bool = False) -> str:
    """As `Given.command`, with what was given."""
    return given().command(*words, of_file=of_file)


def with_stage(message: str, stage: str) -> str:
    """The message with the stage's name in its commands."""
    return message.replace(THIS_STAGE, shlex.quote(stage))
