"""`llm-distill align`: how two tokenizers split the same text, chunk under chunk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from llm_distill.cli.display import console, make_table, say
from llm_distill.distillation.alignment.aligned import AlignedRow, aligned
from llm_distill.distillation.alignment.encoding import (
    NO_LIMIT,
    EncodedRow,
    RowEncoder,
    bytes_of_tokens,
    document_of,
    messages_of,
    turns_of,
)
from llm_distill.errors import DataError, ModelError, counted
from llm_distill.models.sources import ModelSource, end_tokens, load_tokenizer
from llm_distill.paths import find_resource
from llm_distill.rows.columns import Row
from llm_distill.rows.records import read_jsonl
from llm_distill.rows.unusable import UnusableRowError
from llm_distill.training.encoder import PairEncoder, tools_of

NAMES = ("teacher", "student")
COLOURS = ("black on bright_cyan", "black on bright_yellow")
IN_NO_CHUNK = "white on red"
MARKS = {" ": "␣", "\n": "⏎", "\r": "␍", "\t": "⇥"}
MARGIN = "  "
WHY_NOT = "of a first token, which nothing predicts, or of one with text of the template in it"
LONGEST = 24
"""Characters of a text that a message quotes."""


@dataclass(frozen=True)
class Cell:
    """One column: the tokens of a chunk on either side, or tokens in no chunk."""

    texts: tuple[str, str]
    is_chunk: bool

    @property
    def width(self) -> int:
        return max(map(cell_len, self.texts))


def align_command(
    names: tuple[str, str],
    formats: tuple[str | None, str | None],
    file: str,
    n_rows: int,
) -> None:
    """Show and count the chunks of a text, or of the first `n_rows` rows of a JSONL file.

    names: of teacher and student, directories or names on the Hub.
    formats: `chat` or `text`; None is chat where the tokenizer has a chat template.

    Raises:
        ModelError: a tokenizer cannot be loaded, or does not say what its tokens write.
        DataError: the file cannot be read, or nothing in it can be aligned.
    """
    rows = _rows(file, n_rows)
    teacher, student = (_encoder(*each) for each in zip(names, NAMES, formats, strict=True))
    out = console()
    found: list[tuple[EncodedRow, EncodedRow, AlignedRow]] = []
    dropped: Counter[str] = Counter()
    for place, row in rows:
        out.print(f"[bold]{escape(place)}[/bold]", soft_wrap=True)
        a = b = None
        try:
            turns, tools = _turns(row), tools_of(row)
            a, b = teacher.encode(turns, tools), student.encode(turns, tools)
            chunks = aligned(a, b)
        except UnusableRowError as error:
            dropped[str(error)] += 1
            where = f": {_difference(a, b)}" if a is not None and b is not None else ""
            say(f"{MARGIN}dropped: {error}{where}", out)
            continue
        found.append((a, b, chunks))
        for number, cells in enumerate(_cells((teacher, student), (a, b), chunks), start=1):
            if len(a.contents) > 1:
                out.print(f"{MARGIN}[dim]turn {number} of the assistant's[/dim]")
            _print_cells(cells, out)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
    if not found:
        raise DataError(f"nothing in {file} can be aligned ({reasons})")
    out.print(_table(found))
    missing = sum(row.n_bytes - row.n_bytes_kept for _, _, row in found)
    if missing:
        out.print(f"{counted(missing, 'byte')} in no chunk: {WHY_NOT}")
    if dropped:
        out.print(f"dropped {sum(dropped.values())} of {counted(len(rows), 'row')} ({reasons})")


def _encoder(name: str, role: str, wanted: str | None) -> RowEncoder:
    path = find_resource(name)
    source = ModelSource(role, name if path is None else str(path), prompt_format="text")
    tokenizer = load_tokenizer(source, is_alone=True)
    has_template = bool(tokenizer.chat_template)
    if wanted == "chat" and not has_template:
        raise ModelError(f"the {role}'s tokenizer ({source.path}) has no chat template")
    as_chat = has_template if wanted is None else wanted == "chat"
    pairs = PairEncoder(
        tokenizer, _ends(source, tokenizer), "chat" if as_chat else "text", NO_LIMIT
    )
    return RowEncoder(pairs, bytes_of_tokens(source, tokenizer))


def _ends(source: ModelSource, tokenizer: Any) -> frozenset[int]:
    try:
        return end_tokens(source, tokenizer)
    except (OSError, ValueError) as error:  # a tokenizer without a model's config
        if tokenizer.eos_token_id is None:
            raise ModelError(f"the tokenizer {source.path} has no eos_token") from error
        return frozenset({tokenizer.eos_token_id})


def _rows(file: str, n_rows: int) -> list[tuple[str, Row]]:
    """Each row with its place; a file that is not JSONL is one row with a `text`."""
    path = find_resource(file)
    if path is None or not path.is_file():
        raise DataError(f"there is no file {file}; expected a text, or a .jsonl of rows")
    try:
        if path.suffix == ".jsonl":
            with path.open("rb") as lines:
                rows = list(islice(read_jsonl(lines, file), n_rows))
        else:
            text = path.read_bytes().decode("utf-8-sig")
            rows = [(file, {"text": text})] if text.strip() else []
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{file}:{line}: not UTF-8 text; save it as UTF-8") from error
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    if not rows:
        raise DataError(f"{file} is empty")
    for place, row in rows:
        if not ({"messages", "text"} & row.keys() or {"prompt", "completion"} <= row.keys()):
            raise DataError(
                f"{place}: a row has prompt and completion, or messages, or text; this one has "
                f"{', '.join(sorted(row)) or 'nothing'}"
            )
    return rows


def _turns(row: Row) -> Sequence[dict[str, str]] | str:
    if {"prompt", "completion"} <= row.keys():
        return turns_of(row, "completion", lambda row: row["prompt"])
    return messages_of(row, "messages") if "messages" in row else document_of(row, "text")


def _difference(a: EncodedRow, b: EncodedRow) -> str:
    """Where the first texts begin to differ, and how they continue."""
    pairs = zip(a.contents, b.contents, strict=True)
    one, other = next((x.text, y.text) for x, y in pairs if x.text != y.text)
    shared = zip(one, other, strict=False)
    at = next((i for i, (x, y) in enumerate(shared) if x != y), min(len(one), len(other)))
    parts = (_visible(text[at:])[:LONGEST] or "nothing" for text in (one, other))
    said = (f"{name}: {part}" for name, part in zip(NAMES, parts, strict=True))
    return f"after byte {at} " + ", ".join(said)


def _cells(
    encoders: tuple[RowEncoder, RowEncoder], sides: tuple[EncodedRow, EncodedRow], row: AlignedRow
) -> Iterator[list[Cell]]:
    """The cells of each content: its chunks, and between them what is in none."""
    first = (row.teacher_first, row.student_first)
    last = (row.teacher_last, row.student_last)

    def cell(starts: Sequence[int], ends: Sequence[int], is_chunk: bool) -> Cell:
        texts = (
            " ".join(_visible(encoder.table.text([token])) for token in side.ids[start:end])
            for encoder, side, start, end in zip(encoders, sides, starts, ends, strict=True)
        )
        teacher, student = (text if is_chunk else f"({text})" for text in texts)
        return Cell((teacher, student), is_chunk)

    chunk = 0
    for contents in zip(sides[0].contents, sides[1].contents, strict=True):
        # With a token at either end that is only partly in the content.
        at = [content.start - (content.begin > 0) for content in contents]
        stops = [
            content.end + (content.is_closed or content.ends[-1] < len(content.text))
            for content in contents
        ]
        cells = []
        while chunk < len(row.is_end) and first[0][chunk] < stops[0]:
            starts = [int(side[chunk]) for side in first]
            if starts != at:
                cells.append(cell(at, starts, False))
            at = [int(side[chunk]) + 1 for side in last]
            cells.append(cell(starts, at, True))
            chunk += 1
        if at != stops:
            cells.append(cell(at, stops, False))
        yield cells


def _visible(data: bytes) -> str:
    """A token made visible: marks for white space, codes for what does not print."""
    text = data.decode("utf-8", "backslashreplace")
    return "".join(
        MARKS.get(letter)
        or (letter if letter.isprintable() else letter.encode("unicode_escape").decode())
        for letter in text
    )


def _print_cells(cells: Sequence[Cell], out: Console) -> None:
    """Teacher over student, in as many pairs of lines as the width requires."""
    label = max(map(len, NAMES)) + 1
    room = out.width - len(MARGIN) - label
    pairs: list[list[Text]] = []
    used = colour = 0
    for cell in cells:
        if not pairs or used + cell.width + 1 > room:
            pairs.append([Text.assemble(MARGIN, (name.ljust(label), "dim")) for name in NAMES])
            used = 0
        style = COLOURS[colour % 2] if cell.is_chunk else IN_NO_CHUNK
        colour += cell.is_chunk
        for line, text in zip(pairs[-1], cell.texts, strict=True):
            line.append(text + " " * (cell.width - cell_len(text)), style)
            line.append("|", "dim")
        used += cell.width + 1
    for pair in pairs:
        for line in pair:
            out.print(line, soft_wrap=True)
        out.print()


def _table(found: Sequence[tuple[EncodedRow, EncodedRow, AlignedRow]]) -> Table:
    """Counts for either side, and how much of it is in chunks."""
    rows = [row for _, _, row in found]
    n_chunks = sum(len(row.is_end) for row in rows)
    n_bytes, kept = sum(row.n_bytes for row in rows), sum(row.n_bytes_kept for row in rows)
    tokens = [
        sum(each.end - each.start + each.is_closed for row in side for each in row.contents)
        for side in ([a for a, _, _ in found], [b for _, b, _ in found])
    ]
    in_chunks = [
        sum(int((row.teacher_last - row.teacher_first + 1).sum()) for row in rows),
        sum(int((row.student_last - row.student_first + 1).sum()) for row in rows),
    ]
    table = make_table("", right=(*NAMES, "both"))
    table.add_row("tokens in the loss", *(f"{n:,}" for n in tokens))
    table.add_row("tokens in chunks", *(f"{n:,}" for n in in_chunks))
    table.add_row("tokens a chunk", *(f"{n / max(n_chunks, 1):.2f}" for n in in_chunks))
    table.add_row("chunks", "", "", f"{n_chunks:,}")
    table.add_row("of them ends of turns", "", "", f"{sum(int(r.is_end.sum()) for r in rows):,}")
    table.add_row("bytes", "", "", f"{n_bytes:,}")
    table.add_row("bytes in chunks", "", "", f"{kept:,}")
    return table
