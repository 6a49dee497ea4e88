"""What `ask` does: one question, many of a file, or a chat, with one model or several.

Answers go to standard output or into a file; what is said about them to standard error.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from llm_distill.cli.answerer import Answerer
from llm_distill.cli.display import quiet_libraries
from llm_distill.cli.questions import read_questions, with_questions
from llm_distill.engines.base import Completion
from llm_distill.errors import ConfigError, DataError, WorkspaceError, counted
from llm_distill.rows.columns import Row
from llm_distill.rows.messages import Message
from llm_distill.runtime.disk import disk_explained
from llm_distill.runtime.finished import FinishedRun, open_run
from llm_distill.runtime.prompt_form import PromptForm, chosen_model, form_of

YOU = "> "
FORGET, QUIT, HELP = "/new", "/quit", "/help"
COMMAND = re.compile(r"/\w+")
"""A lone word after a slash; a question may begin with a path or a fraction."""


@dataclass(frozen=True)
class Asked:
    """The options of `ask`."""

    questions: tuple[str, ...] = ()
    file: Path | None = None
    question_column: str | None = None
    out: Path | None = None
    force: bool = False
    beside: tuple[str, ...] = ()
    raw: bool = False
    shots: int | None = None
    system: str | None = None
    temperature: float = 0.0
    max_tokens: int | None = None
    seed: int = 0

    def check(self) -> None:
        """Raises:
        ConfigError: options that exclude each other.
        """
        if self.file is not None and self.questions:
            raise ConfigError("--file and -q exclude each other; put the question into the file")
        if self.question_column is not None and self.file is None:
            raise ConfigError("--question COLUMN goes with --file; to ask a question: -q TEXT")
        if any(not question.strip() for question in self.questions):
            raise ConfigError("-q: the question is empty")
        if self.out is not None and self.file is None and not self.questions:
            raise ConfigError("--out: there is nothing to write of a chat; give -q or --file")
        if self.raw and (self.system is not None or self.shots):
            raise ConfigError("--raw sends the text as typed: no --system and no --shots with it")
        if self.out is not None and self.out.exists() and not self.force:
            raise WorkspaceError(f"--out: {self.out} is there; name another file, or add --force")


def ask_command(run: str, stage: str | None, root: Path, asked: Asked) -> None:
    """Answer, and say which models answer and how the prompt is formed."""
    asked.check()
    quiet_libraries()
    notes = Console(stderr=True, highlight=False, soft_wrap=True)
    finished = open_run(run, root, says=lambda message: notes.print(escape(message)))
    name, why = chosen_model(finished, stage)
    notes.print(f"[dim]{escape(finished.record.described)}[/dim]")
    answerers = _answerers(finished, name, asked)
    for answerer, because in zip(answerers, [why, *asked.beside], strict=False):
        how = "the text as typed" if asked.raw else answerer.form.described
        reason = f" ({because})" if because and answerer.name == name else ""
        notes.print(f"[dim]{escape(f'{answerer.name}{reason}: {how}')}[/dim]")
    if asked.file is not None or asked.out is not None:
        if asked.file is not None:
            rows = with_questions(
                read_questions(asked.file),
                asked.question_column,
                answerers,
                finished.pipeline,
                lambda message: notes.print(f"[dim]{escape(message)}[/dim]"),
            )
        else:
            rows = [answerers[0].row(question) for question in asked.questions]
        with _output(asked.out) as file:
            n = _answer_rows(answerers, rows, file, notes)
        if asked.out is not None:
            notes.print(f"{counted(n, 'answer')} in {escape(str(asked.out))}")
    elif asked.questions:
        for question in asked.questions:
            if len(asked.questions) > 1:
                Console(highlight=False).print(f"{YOU}{question}", markup=False, soft_wrap=True)
            _show(answerers, question, [[] for _ in answerers])
    else:
        _chat(answerers, notes)


def _answerers(run: FinishedRun, name: str, asked: Asked) -> list[Answerer]:
    names = list(dict.fromkeys([name, *map(run.model_name, asked.beside)]))
    own = {each: form_of(run, each, asked.shots if each == name else None) for each in names}
    usual = own[name] or PromptForm("nobody")
    found = []
    for each in names:
        form = own[each]
        if form is None or (asked.shots is not None and each != name):
            form = usual
        found.append(
            Answerer(run, each, form, asked.raw, asked.system).drawing(
                asked.temperature, asked.max_tokens, asked.seed
            )
        )
    return found


def _show(answerers: list[Answerer], question: str, histories: list[list[Message]]) -> None:
    """Print the answers to a question: alone as it is written, several side by side."""
    out = Console(highlight=False)
    row = [answerer.row(question) for answerer in answerers]
    if len(answerers) == 1:
        write = _written if out.is_terminal else None
        answer = answerers[0].answer(row[0], histories[0], write)
        if answer.error is not None:
            raise DataError(answer.error)
        if write is None:
            out.print(_said(answer), markup=False, soft_wrap=True)
        else:
            print(_after(answer))
        return
    answers = [
        answerer.answer(each, history)
        for answerer, each, history in zip(answerers, row, histories, strict=True)
    ]
    table = Table(box=None, padding=(0, 2, 0, 0), expand=out.is_terminal)
    for answerer in answerers:
        table.add_column(escape(answerer.name), ratio=1, overflow="fold")
    table.add_row(*(escape(_said(answer)) for answer in answers))
    out.print(table)


def _written(piece: str) -> None:
    print(piece, end="", flush=True)


def _said(answer: Completion) -> str:
    """An answer for people: its text, and what it calls."""
    if answer.error is not None:
        return f"error: {answer.error}"
    thought = f"<think>{answer.reasoning}</think>\n" if answer.reasoning else ""
    return thought + answer.text.strip() + _after(answer)


def _after(answer: Completion) -> str:
    """What comes after the text: calls, and whether it was cut."""
    calls = "".join(
        f"\n{json.dumps(call['function'], ensure_ascii=False)}" for call in answer.tool_calls or ()
    )
    return calls + (" …" if answer.finish_reason == "length" else "")


def _chat(answerers: list[Answerer], notes: Console) -> None:
    """Questions one by one; where a model has a chat template, with what was said before."""
    with suppress(ImportError):  # lines can be edited and called back
        import readline  # noqa: F401
    for answerer in answerers:
        answerer.row("?")  # whether one text fills its template, before anything is typed
    remembers = [answerer.remembers for answerer in answerers]
    if any(remembers):
        how = f"{FORGET} forgets what was said, {QUIT} ends"
    else:
        how = f"each question stands alone: no chat template; {QUIT} ends"
    interactive = sys.stdin.isatty()
    if interactive:
        notes.print(f"[dim]{how}[/dim]")
    histories: list[list[Message]] = [[] for _ in answerers]
    while True:
        try:
            line = input(YOU if interactive else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.strip() == QUIT:
            return
        if line.strip() == FORGET:
            histories = [[] for _ in answerers]
            notes.print("[dim]forgotten; the next question is the first[/dim]")
        elif line.strip() == HELP:
            notes.print(f"[dim]{how}[/dim]")
        elif COMMAND.fullmatch(line.strip()):
            notes.print(f"[yellow]no command {escape(line.strip())}; {how}[/yellow]")
        elif line.strip():
            try:
                _show(answerers, line, histories)
            except KeyboardInterrupt:
                print()  # the answer is broken off; the chat goes on
            except DataError as error:
                notes.print(f"[red]{escape(str(error))}[/red]")


def _answer_rows(answerers: list[Answerer], rows: list[Row], file: IO[str], notes: Console) -> int:
    """Write a line for each row and model; the columns are those of `evaluate`. One at a time in
    memory.
    """
    n, errors = 0, []
    for answerer in answerers:
        for row in answerer.answers(rows):
            file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            n += 1
            errors += [f"{row['id']}: {row['error']}"] if row["error"] is not None else []
        answerer.close()
    if errors:
        without = counted(len(errors), "row")
        notes.print(
            f"[yellow]{without} without an answer: see `error`; "
            f"the first, {escape(errors[0])}[/yellow]"
        )
    return n


@contextmanager
def _output(path: Path | None) -> Iterator[IO[str]]:
    """Standard output, or a file that is whole or not there."""
    if path is None:
        yield sys.stdout
        return
    partial = path.with_name(f".{path.name}.new")
    with disk_explained(path.parent, "--out: "):
        try:
            with partial.open("w", encoding="utf-8") as file:
                yield file
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
