"""What the fuzzer throws at what: for each target a function of bytes and inputs to begin with."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Target = Callable[[Path], tuple[Callable[[bytes], object], list[bytes]]]

ROOT = Path(__file__).resolve().parents[2]
ENDINGS = {1: ".jsonl", 2: ".json", 3: ".csv", 4: ".parquet"}
"""Of data files, by the first byte of an input."""
QUESTIONS = [
    {"id": "a", "question": "What is 2 + 2?", "reference_answer": "4", "skills": ["sum", None]},
    {"id": "b", "question": "三十六个", "reference_answer": "36", "meta": {"k": [1, 2.5]}},
]
CHATS: list[dict[str, object]] = [
    {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "n": 1},
]
TURNS: list[dict[str, object]] = [
    {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]},
    {"conversations": [{"from": "human", "value": "a", "weight": 0}], "system": "be kind"},
]
ALPACA = [
    {"instruction": "Add.", "input": "1, 2", "output": "3"},
    {"instruction": "x", "output": ""},
]
NASTY = [
    *(b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\r\n", b"\t", b'"', b"'"),
    *(b"[" * 3000, b"{" * 500, b"- " * 300, b"&a [*a, *a]", b"*a", b"<<: *a", b"!!python/none x"),
    *(b"null", b"true", b"-1", b"1e400", b"-0", b"NaN", b"Infinity", b"9" * 400, b"2**(10**9)"),
    *(b"{{ x }}", b"{% for i in range(10**9) %}", b"{{ 'a' * 10**9 }}", b"{% include 'x' %}"),
    *(b"${X}", b"1.5", b"2024-02-30", b"0o17", b"~", b"|\n", b">\n", b"\xc2\x85", b"\xe2\x80\xa8"),
    *(b"\x1b[31m", b"\\", b"\\ud800", b"\\u0000", b"a" * 70_000, b",,,,", b"\n\n\n", b": ", b"? "),
    *(b"# ", b"%"),
]


VALUES: list[object] = [
    *(None, True, 0, -1, 0.5, -0.0, 1e300, 2**63, 10**400, "", " ", "x", "x" * 70_000, "\x1b[31m"),
    *(
        "null",
        "1",
        "..",
        "/",
        "~",
        "${HOME}",
        "a/b",
        "{{ x }}",
        "\ud800",
        "é" * 300,
        [],
        {},
        [None],
    ),
    *([None], [1, "a"], {"": 1}, {"a": {"a": {"a": 1}}}, [[]], {"id": "a"}, ["x"] * 1000),
]


def mutated(given: bytes, corpus: list[bytes], drawn: random.Random) -> bytes:
    """The input with a few changes: of its values where it is JSON or YAML, or of its bytes."""
    if drawn.random() < 0.6:
        changed = _other_values(given, drawn)
        if changed is not None:
            return changed
    return _other_bytes(given, corpus, drawn)


def _other_values(given: bytes, drawn: random.Random) -> bytes | None:
    """One to four values replaced, left out, renamed or put elsewhere; None where it has none."""
    head = given[:1] if given[:1] in (b"\x01", b"\x02", b"\x03", b"\x04") else b""
    lines = given[1:].split(b"\n") if head == b"\x01" else [given[len(head) :]]
    nth = drawn.randrange(len(lines))
    try:
        values = json.loads(lines[nth])
    except ValueError:
        try:
            values = yaml.safe_load(given) if not head else None
        except yaml.YAMLError:
            return None
    if not isinstance(values, dict | list):
        return None
    for _ in range(drawn.randint(1, 4)):
        places = [(holder, key) for holder in _holders(values) for key in _keys(holder)]
        if not places:
            break
        holder, key = drawn.choice(places)
        kind = drawn.randrange(4)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[drawn.choice(["", "x", "id", "stage", 7, None, "é" * 300])] = holder.pop(key)
        elif kind == 2:
            other, there = drawn.choice(places)
            with suppress(KeyError, IndexError):
                holder[key] = deepcopy(other[there])
        else:
            holder[key] = deepcopy(drawn.choice(VALUES))
    if head == b"" and not given.lstrip().startswith((b"{", b"[")):
        return yaml.safe_dump(values, sort_keys=False).encode("utf-8", "surrogatepass")
    lines[nth] = json.dumps(values, ensure_ascii=True).encode()
    return head + b"\n".join(lines)


def _holders(value: object) -> Iterator[Any]:
    if isinstance(value, dict | list):
        yield value
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _holders(inner)


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _other_bytes(given: bytes, corpus: list[bytes], drawn: random.Random) -> bytes:
    data = bytearray(given)
    for _ in range(drawn.randint(1, 6)):
        at = drawn.randrange(len(data) + 1)
        to = min(len(data), at + drawn.choice((1, 1, 2, 8, 40, 400)))
        kind = drawn.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] = drawn.randrange(256)
        elif kind == 1:
            del data[at:to]
        elif kind == 2:
            data[at:at] = data[at:to] * drawn.choice((1, 2, 50))
        elif kind == 3:
            data[at:to] = drawn.choice(NASTY)
        elif kind == 4:
            data[at:at] = drawn.choice(NASTY)
        else:
            other = drawn.choice(corpus)
            begin = drawn.randrange(len(other) + 1)
            data[at:at] = other[begin : begin + drawn.choice((10, 80, 800))]
    return bytes(data[:500_000])


def pipelines(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    from llm_distill.pipeline.load import load_pipeline

    folder.mkdir(parents=True, exist_ok=True)
    shipped = sorted((ROOT / "pipelines").glob("*.yaml"))
    for file in shipped:
        (folder / file.name).write_bytes(file.read_bytes())

    def load(given: bytes) -> None:
        (folder / "given.yaml").write_bytes(given)
        load_pipeline(str(folder / "given.yaml"))

    return load, [file.read_bytes() for file in shipped]


def data(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """Each input begins with a byte that chooses the file's ending."""
    shapes = (QUESTIONS, CHATS, TURNS, ALPACA)
    table = b'id,question,reference_answer\na,"What is 2, 2?",4\nb,"two\nlines",5\n'
    corpus = [
        *(b"\x01" + b"\n".join(json.dumps(row).encode() for row in rows) for rows in shapes),
        *(b"\x02" + json.dumps(rows).encode() for rows in shapes),
        b"\x03" + table,
        b"\x04" + _parquet(folder),
    ]

    def load(given: bytes) -> None:
        file = folder / f"given{ENDINGS[given[0] if given and given[0] in ENDINGS else 1]}"
        file.write_bytes(given[1:])
        _run(folder, {"stage": "load_dataset", "path": str(file)})

    return load, corpus


def completions(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What a model wrote, parsed and judged in every way."""
    from llm_distill.methods.answers import judge
    from llm_distill.methods.parsing import read_blocks, read_json, read_tag

    corpus = [
        b"The sum is 4. <ans>4</ans>",
        b"<think>Is it <ans>9</ans>?</think> So \\boxed{\\frac{1}{2}}. <ans>$\\frac{1}{2}$</ans>",
        b'```json\n{"q": "What is $\\\\theta$?", "answer": 1e3, "n": [1, {"a": null}]}\n```',
        b"<Question_1>a</Question_1><Question_2>b</Question_2>",
        b"x \\geq 3, (1, 2], \\{1, 2\\}, 5 km/h, 10-15, 2024-02-04, $3.50, 6.63\\times10^{-34}",
    ]

    def read(given: bytes) -> None:
        text = given.decode("utf-8", "surrogateescape")[:4000]
        read_tag(text, "ans")
        read_blocks(text, r"Question_\d+")
        read_json(text, {"q": "q", "answer": "answer"})
        answer = text[: len(text) // 2][:200]
        judge(answer, text[-150:] or "x", "math")
        judge(answer, "B", "choice")

    return read, corpus


def bodies(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """What a server sends: with status 200, and as an error."""
    from llm_distill.engines.base import Request, SamplingSettings
    from llm_distill.engines.openai.answers import (
        BadAnswerError,
        PassingError,
        judge,
        read_answer,
        read_refusal,
    )
    from llm_distill.engines.openai.exchange import Writing

    usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    message = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2"}
    corpus = [
        {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage},
        {"choices": [{"text": "4", "finish_reason": "length"}], "usage": None},
        {"choices": [{"message": {"content": [{"type": "text", "text": "4"}]}}], "usage": usage},
        {"error": {"message": "too long", "code": 502, "param": None, "type": "x"}},
        {"detail": [{"loc": ["body", "seed"], "msg": "not permitted", "type": "extra_forbidden"}]},
        {"object": "error", "message": {"detail": [{"loc": ["body"]}]}, "code": 422},
    ]
    request = Request("a", [{"role": "user", "content": "2 + 2?"}], SamplingSettings(), 1)

    def read(given: bytes) -> None:
        with suppress(BadAnswerError, PassingError):
            read_answer(request, given)
        for status in (400, 403, 422, 429, 500):
            judge(
                read_refusal(status, given),
                Writing(request).fields(),
                request.structure is not None,
            )

    return read, [json.dumps(each).encode() for each in corpus]


def templates(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    from llm_distill.prompts import load_template

    folder.mkdir(parents=True, exist_ok=True)
    corpus = [file.read_bytes() for file in sorted((ROOT / "prompts").rglob("*.jinja"))]

    def render(given: bytes) -> None:
        (folder / "given.jinja").write_bytes(given)
        template = load_template(str(folder / "given.jinja"))
        values = dict.fromkeys(template.variables, "text") | {"examples": [QUESTIONS[0]]}
        template.render(values)

    return render, corpus


def records(folder: Path) -> tuple[Callable[[bytes], object], list[bytes]]:
    """A run's record, settings and manifest, through the commands that read them.

    An input begins with a byte that says which file it is: with 4, a manifest whose digest is made
    to fit, as one of another version's would.
    """
    import os
    from contextlib import redirect_stderr, redirect_stdout

    from llm_distill.cli import main
    from llm_distill.errors import LLMDistillError
    from llm_distill.manifest import MANIFEST, manifest_digest
    from llm_distill.runtime.artifact import Workspace

    workspace = Workspace(folder / "workspace")
    run = workspace.runs / "given" / "20260101-000000"
    _run(folder, {"stage": "load_dataset", "path": _data_file(folder)})
    (made,) = (workspace.runs / "given").iterdir()
    made.rename(run)
    said = json.loads((run / "run.json").read_text())
    del said["settings_digest"]  # or every change of the settings would be refused as such
    (run / "run.json").write_text(json.dumps(said))
    (artifact,) = workspace.artifacts.glob("rows-*")
    files = {1: run / "run.json", 2: run / "pipeline.yaml", 3: artifact / MANIFEST}
    before = {file: file.read_bytes() for file in files.values()}
    at = ["--workspace", str(workspace.root)]
    commands = [
        *(["status", *at], ["status", "given/20260101-000000", *at]),
        *(["report", *at], ["compare", "given", "given/20260101-000000", *at]),
        ["push", "given", "rows", "--repo-id", "a/b", "--dry-run", *at],
        ["plan", str(folder / "given.yaml"), *at],
    ]

    def read(given: bytes) -> None:
        for file, content in before.items():
            file.write_bytes(content)
        kind, content = given[:1], given[1:]
        if kind == b"\x04":
            with suppress(ValueError, RecursionError):
                raw = json.loads(content)
                if isinstance(raw, dict):
                    raw["manifest_digest"] = manifest_digest(raw)
                    content = json.dumps(raw).encode()
        files.get(kind[0] if kind else 1, files[3]).write_bytes(content)
        refused = None
        for command in commands:
            with Path(os.devnull).open("w") as out, redirect_stdout(out), redirect_stderr(out):
                try:
                    main.app(command, standalone_mode=False)
                except LLMDistillError as error:
                    refused = error
        if refused is not None:
            raise refused

    # On one line, and as JSON, so that values can be changed.
    texts = {kind: json.dumps(yaml.safe_load(before[file])) for kind, file in files.items()}
    return read, [bytes([kind]) + texts[min(kind, 3)].encode() for kind in (1, 2, 3, 4)]


def _data_file(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "rows.jsonl"
    file.write_text('{"id": "a", "question": "What is 2 + 2?", "reference_answer": "4"}\n')
    return str(file)


def _run(folder: Path, stage: dict[str, object]) -> None:
    import shutil

    import yaml
    from rich.console import Console

    from llm_distill.cli.display import TerminalDisplay
    from llm_distill.pipeline.load import load_pipeline
    from llm_distill.runtime.artifact import Workspace
    from llm_distill.runtime.plan import Selection
    from llm_distill.runtime.runner import run_pipeline

    file = folder / "given.yaml"
    file.write_text(yaml.safe_dump({"name": "given", "stages": {"rows": stage}}))
    shutil.rmtree(folder / "workspace", ignore_errors=True)
    display = TerminalDisplay(Console(quiet=True))
    run_pipeline(load_pipeline(str(file)), Workspace(folder / "workspace"), Selection(), display)


def _parquet(folder: Path) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"id": ["a", "b"], "question": ["x", "y"], "n": [1, None], "l": [[1], []]})
    parquet.write_table(table, folder / "rows.parquet")
    return (folder / "rows.parquet").read_bytes()


TARGETS: dict[str, Target] = {
    "pipelines": pipelines,
    "data": data,
    "completions": completions,
    "bodies": bodies,
    "templates": templates,
    "records": records,
}
