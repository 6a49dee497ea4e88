"""What `init` does: reads what is given, asks for the rest, writes, and says what it guessed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.markup import escape

from llm_distill.cli.display import console, make_table, say
from llm_distill.errors import ConfigError, LLMDistillError, ModelError, counted, nearest
from llm_distill.hints import Given as Command
from llm_distill.paths import bundled_root
from llm_distill.pipeline.load import load_pipeline
from llm_distill.secrets import has_secret
from llm_distill.starter.data import Data, divided, read_data
from llm_distill.starter.kinds import Answers, task_of
from llm_distill.starter.methods import Method, why_not
from llm_distill.starter.models import Local, Served, is_address, local_model, models_at
from llm_distill.starter.write import Start, files_of, write

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Of a folder, which names the runs too."""
FEW_ITEMS = 100
STUDENT = "HuggingFaceTB/SmolLM2-135M-Instruct"
Found = TypeVar("Found")


@dataclass(frozen=True)
class Given:
    """The options of `init`, as they were given."""

    folder: Path | None
    data: str | None
    teacher: str | None
    student: str | None
    method: str | None
    question: str | None
    answer: str | None
    answers: str | None
    task: str | None
    teacher_model: str | None
    api_key_env: str
    student_format: str | None
    config: str | None
    split: str
    test: float
    seed: int


def list_command() -> None:
    """The methods, and the pipelines that are shipped, each with a line."""
    out = console()
    methods = make_table("--method", "what it does")
    for method in Method:
        methods.add_row(method.value, method.about)
    files = make_table("for run", "what it does")
    for path in sorted((bundled_root() / "pipelines").glob("*.yaml")):
        files.add_row(f"pipelines/{path.name}", _first_comment(path))
    out.print(methods, files, sep="\n")


def init_command(given: Given, *, force: bool) -> None:
    """Write the folder, and say what is in it.

    Raises:
        ConfigError: an option is missing without a terminal, or cannot be meant.
        DataError: the data cannot be read.
        ModelError: a server cannot be reached.
    """
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    _check_given(given, asks)
    try:
        start = _start(given, asks)
    except (typer.Abort, KeyboardInterrupt) as error:  # at a question
        typer.echo("\nstopped: nothing has been written", err=True)
        raise typer.Exit(130) from error
    files = files_of(start)
    write(files, start.folder, force=force)
    load_pipeline(str(start.file))  # it is to run as it stands
    _show(start, given, files)


def _start(given: Given, asks: bool) -> Start:
    data = _settled(
        given.data, "your data: a file, a folder or a name on the Hub", "", partial(_read, given)
    )
    teacher = _settled(
        given.teacher,
        "the teacher: a model, or the address of a server",
        "",
        partial(_teacher, given, asks),
    )
    student = _settled(
        given.student, "the student: a model", STUDENT, partial(local_model, "--student")
    )
    asks = asks and None in (given.data, given.teacher, given.student)  # the rest has defaults
    first = "sft" if given.method is None and not asks else given.method
    able = [each for each in Method if why_not(each, data, teacher) is None]
    method = _settled(
        first, f"the method: {', '.join(able)}", "sft", partial(_method, data, teacher)
    )
    told = task_of(data.kind, data.labels)
    task = _settled(
        given.task if asks else given.task or told, "what prompts open with", told, _task
    )
    prefix = re.sub(r"[^A-Za-z0-9]+", "_", Path(str(data.path)).name.partition(".")[0]).strip("_")
    own = f"{prefix or 'mine'}_{method}"
    folder = _settled(
        given.folder if asks else given.folder or Path(own),
        "the folder",
        own,
        partial(_folder, method),
    )
    sizes = method.sizes(len(data.items), given.test)
    return Start(
        folder=folder,
        method=method,
        data=data,
        parts=divided(data, sizes, given.seed),
        teacher=teacher,
        student=student,
        prompt_format=given.student_format or ("chat" if student.has_chat_template else "text"),
        task=task,
        seed=given.seed,
    )


def _check_given(given: Given, asks: bool) -> None:
    wanted = {
        "--data PATH": given.data,
        "--teacher MODEL|URL": given.teacher,
        "--student MODEL": given.student,
    }
    missing = [option for option, value in wanted.items() if value is None]
    if missing and not asks:
        raise ConfigError(
            f"missing: {', '.join(missing)}; without a terminal nothing is asked. "
            "--help says what each is"
        )
    if not 0 < given.test < 1:
        raise ConfigError(f"--test {given.test:g}: a share of the rows, above 0 and below 1")


def _settled(value: Any, question: str, default: str, check: Callable[[Any], Found]) -> Found:
    """What is given, checked; where nothing is, what a person says, until it can be meant."""
    if value is not None:
        return check(value)
    while True:
        said = typer.prompt(question, default=default or None)
        try:
            return check(str(said).strip())
        except LLMDistillError as error:
            typer.echo(f"  {error}")


def _read(given: Given, path: str) -> Data:
    kind = Answers(given.answers) if given.answers is not None else None
    return read_data(path, given.config, given.split, given.question, given.answer, kind)


def _teacher(given: Given, asks: bool, name: str) -> Served | Local:
    if not is_address(name):
        if given.teacher_model is not None:
            raise ConfigError(f"--teacher-model goes with a server's address, not with {name}")
        return local_model("--teacher", name)
    try:
        address, models = models_at(name, given.api_key_env)
    except ModelError as error:
        if given.teacher_model is None:
            raise ModelError(
                f"{error}; start the server, or say --teacher-model NAME to write the file anyway"
            ) from error
        say(f"{error}; whether it has '{given.teacher_model}' is not known")
        return Served(given.teacher_model, name.rstrip("/"), given.api_key_env)
    return Served(_served_name(given, asks, address, models), address, given.api_key_env)


def _served_name(given: Given, asks: bool, address: str, models: list[str]) -> str:
    def check(name: str) -> str:
        if name not in models:
            raise ConfigError(f"{address} has no model '{name}'; {nearest(name, models)}")
        return name

    only = models[0] if len(models) == 1 else None
    if given.teacher_model is None and only is None and (not asks or not models):
        raise ConfigError(
            f"{address} has {counted(len(models), 'model')}; say which: --teacher-model NAME; "
            f"{nearest('', models)}"
        )
    return _settled(given.teacher_model or only, f"its model: {', '.join(models)}", "", check)


def _method(data: Data, teacher: Served | Local, name: str) -> Method:
    if name not in list(Method):
        raise ConfigError(f"no method '{name}'; {nearest(name, Method)}")
    method = Method(name)
    message = why_not(method, data, teacher)
    if message is not None:
        raise ConfigError(message)
    return method


def _task(text: str) -> str:
    if has_secret(text):
        raise ConfigError("--task: it looks like a secret, and prompts are sent to models")
    return text


def _folder(method: Method, name: Path | str) -> Path:
    folder = Path(name).expanduser()
    if not NAME.fullmatch(folder.name):
        raise ConfigError(
            f"'{name}': a folder's name names the runs: letters, digits, and - _ . between them"
        )
    if f"{folder.name}.yaml" == method.base:
        raise ConfigError(
            f"'{name}': its file would extend itself; take a name other than that of "
            f"the shipped {method.base}"
        )
    return folder


def _first_comment(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((line[2:] for line in lines if line.startswith("# ") and "$schema" not in line), "")


def _show(start: Start, given: Given, files: Mapping[Path, str]) -> None:
    out, data = console(), start.data
    left_out = ", ".join(f"{reason}: {count:,}" for reason, count in data.left_out.items())
    more = f"; left out {sum(data.left_out.values()):,} ({left_out})" if left_out else ""
    out.print(f"{data.path}: {counted(len(data.items), 'question')}{more}", markup=False)
    question, answer = data.columns.described()
    parts = ", ".join(f"{len(items):,} {name}" for name, items in start.parts.items())
    teacher = start.teacher
    served = f" on {teacher.base_url}" if isinstance(teacher, Served) else ""
    table = make_table("", "guessed or given", "to change it")
    for row in (
        ("question", question, "--question COLUMN"),
        ("answer", answer, '--answer COLUMN, or "" for none'),
        ("answers are", data.kind.described, f"--answers {'|'.join(Answers)}"),
        ("task", start.task, "--task TEXT"),
        ("parts", f"{parts} (seed {start.seed})", "--test SHARE, --seed N"),
        ("teacher", teacher.name + served, "--teacher, --teacher-model"),
        (
            "student",
            f"{start.student.name}, prompted as {start.prompt_format}",
            "--student, --student-format",
        ),
        ("method", f"{start.method}: {start.method.about}", "--method, and --list"),
    ):
        table.add_row(*map(escape, row))
    out.print(table)
    for model in dict.fromkeys((teacher, start.student)):
        if isinstance(model, Local) and model.note is not None:
            say(model.note, out)
    if not data.has_answers:
        say("there are no answers in the data, so nothing checks the teacher's", out)
    elif data.kind.compared_as is None:
        say("free text cannot be compared: the answers in the data are not used", out)
    if len(start.parts["test"]) < FEW_ITEMS:
        say(f"an exam of {len(start.parts['test'])} questions has wide intervals", out)
    if isinstance(teacher, Served) and find_spec("aiohttp") is None:
        say("to ask a server: pip install 'llm-distill[openai]'", out)
    n_lines = files[start.file].count("\n")
    others = ", ".join(str(path.relative_to(start.folder)) for path in files if path != start.file)
    out.print(f"wrote {start.file} ({n_lines} lines) and, beside it, {others}", markup=False)
    made = Command(str(start.file))
    out.print(f"check it: {made.command('plan', of_file=True)}", markup=False)
    out.print(f"run it:   {made.command('run', of_file=True)}", markup=False)
