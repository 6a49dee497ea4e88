"""Tables that fold to the width of the terminal, and lose nothing.

While it fits, a table is as wide as its content. On a narrower terminal the columns of text shrink,
then the gaps, the names last; text goes on in the next line, names at `_`, `-`, `/` and the like.
Figures are never broken. Where even that is too wide, each row becomes a block:

    tailored_student_without_preferences_round_2
      shots           3
      accuracy        60.0%
      95 % interval   53.1% to 66.5%
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

LEAST, ROOMY = 16, 30
"""Columns to which one of text is narrowed; and without the names being folded."""
WIDE, NARROW, MARGIN = 3, 2, 2
"""Columns between those of a table while it fits, and where it is narrow; and beside a wide one."""
BREAKS = re.compile(r"(?<=\s)(?=\S)|(?<=[_/@=+|])(?=\S)|(?<=[-.,:])(?=[^\s\d])|(?<=[a-z])(?=[A-Z])")
"""Where a word may go on in the next line: not within a figure, such as 1,200 or 2026-01-17."""


class FoldingTable(Table):
    """A rich table. Its right-aligned columns are figures, the others text, the first a name."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.title:
            yield _broken(console.render_str(str(self.title), style="italic"), options.max_width)
        headers, cells = self._content(console)
        layout = self.layout(console, options.max_width)
        if layout is None:
            yield from self._blocks(headers, cells, options.max_width)
        else:
            yield self._folded(headers, cells, *layout)
        if self.caption:
            yield console.render_str(str(self.caption), style="dim")

    def layout(self, console: Console, width: int) -> tuple[int, list[int]] | None:
        """The gap between columns, and the width of each; None where rows become blocks."""
        content = self._content(console)
        n_gaps = len(self.columns) - 1
        room = width - WIDE * n_gaps - 2 * MARGIN
        widths = (
            self._widths(*content, room)
            or self._widths(*content, room, folds_headers=True)
            or self._narrowed(*content, room, ROOMY)
        )
        if widths is not None:
            return WIDE, widths
        widths = self._narrowed(*content, width - NARROW * n_gaps, LEAST, names_too=True)
        return None if widths is None else (NARROW, widths)

    def _content(self, console: Console) -> tuple[list[Text], list[list[Text]]]:
        """The headers, and the cells of each column."""
        cells = [[_text(cell, console) for cell in column._cells] for column in self.columns]
        return [_text(column.header, console) for column in self.columns], cells

    def _widths(
        self,
        headers: Sequence[Text],
        cells: Sequence[Sequence[Text]],
        room: int,
        *,
        folds_headers: bool = False,
    ) -> list[int] | None:
        """As wide as the content is; None where that does not fit. folds_headers: of figures."""
        widths = []
        for column, header, texts in zip(self.columns, headers, cells, strict=True):
            may_fold = folds_headers and column.justify == "right"
            head = _longest_word(header) if may_fold else _width(header)
            widths.append(max(head, *map(_width, texts), 0))
        return widths if sum(widths) <= room else None

    def _narrowed(
        self,
        headers: Sequence[Text],
        cells: Sequence[Sequence[Text]],
        room: int,
        at_least: int,
        *,
        names_too: bool = False,
    ) -> list[int] | None:
        """The columns of text as narrow as need be, the names last; None where nothing fits."""
        widths, least = [], []
        of_columns = zip(self.columns, headers, cells, strict=True)
        for number, (column, header, texts) in enumerate(of_columns):
            widest = max(map(_width, texts), default=0)
            word = _longest_word(header)
            if column.justify == "right":
                widths.append(max(word, widest))
                least.append(widths[-1])
            else:
                piece = max(map(_longest_piece, texts), default=0)
                widths.append(max(_width(header), widest))
                is_whole = number == 0 and not names_too
                least.append(widths[-1] if is_whole else max(word, piece, min(widest, at_least)))
        if sum(least) > room:
            return None
        while sum(widths) > room:
            able = [n for n in range(len(widths)) if widths[n] > least[n]]
            others = [n for n in able if n] or able
            widths[max(others, key=lambda n: widths[n])] -= 1
        return widths

    def _folded(
        self,
        headers: Sequence[Text],
        cells: Sequence[Sequence[Text]],
        gap: int,
        widths: Sequence[int],
    ) -> Table:
        columns = [
            Column(_broken(header, width), justify=column.justify, width=width, no_wrap=True)
            for column, header, width in zip(self.columns, headers, widths, strict=True)
        ]
        table = Table(*columns, box=self.box)
        if gap == NARROW:
            table.collapse_padding, table.show_edge, table.pad_edge = True, False, False
        for number, row in enumerate(self.rows):
            folded = (_broken(c[number], width) for c, width in zip(cells, widths, strict=True))
            table.add_row(*folded, style=row.style, end_section=row.end_section)
        return table

    def _blocks(
        self, headers: Sequence[Text], cells: Sequence[Sequence[Text]], width: int
    ) -> Iterator[Text]:
        """Each row as its name, and a line for each of its other cells that is not empty."""
        labels = [" ".join(header.plain.split()) for header in headers]
        margin = max(map(cell_len, labels[1:]), default=0) + 5
        for number in range(len(self.rows)):
            name = cells[0][number].copy()
            name.stylize("bold")
            yield _broken(name, width)
            for label, column in zip(labels[1:], cells[1:], strict=True):
                text = column[number]
                if not text.plain:
                    continue
                if width - margin < max(LEAST, min(_width(text), width - 4)):
                    yield Text(f"  {label}", style="dim")
                    yield from _indented(Text(), text, 4, width)
                else:
                    lead = Text(f"  {label}".ljust(margin), style="dim")
                    yield from _indented(lead, text, margin, width)


def _text(cell: object, console: Console) -> Text:
    return cell if isinstance(cell, Text) else console.render_str(str(cell), highlight=False)


def _longest_word(text: Text) -> int:
    return max(map(cell_len, text.plain.split()), default=0)


def _width(text: Text) -> int:
    return max(map(cell_len, text.plain.split("\n")), default=0)


def _longest_piece(text: Text) -> int:
    """Columns of the longest part that is not broken; of one that is longer than a column, that."""
    pieces = (piece.rstrip() for piece in BREAKS.split(text.plain))
    return max((n for piece in pieces if (n := cell_len(piece)) <= LEAST), default=0)


def _broken(text: Text, width: int) -> Text:
    """In lines of at most so many columns: between words, a longer word at `BREAKS` or anywhere."""
    lines, at = [], 0
    for line in text.plain.split("\n"):
        start = at
        for piece in _pieces(line, width):
            if at > start and cell_len(text.plain[start : at + len(piece.rstrip())]) > width:
                lines.append(text[start:at])
                start = at
            at += len(piece)
        lines.append(text[start:at])
        at += 1
    for each in lines:
        each.rstrip()
    return Text("\n").join(lines)


def _pieces(line: str, width: int) -> Iterator[str]:
    """What is kept together: words, or the parts of those that are wider than the line."""
    for word in re.split(r"(?<=\s)(?=\S)", line):
        if cell_len(word.rstrip()) <= width:
            yield word
            continue
        for piece in BREAKS.split(word):
            while cell_len(piece.rstrip()) > width:
                fits = next(
                    n for n in range(len(piece), 0, -1) if cell_len(piece[:n]) <= width or n == 1
                )
                yield piece[:fits]
                piece = piece[fits:]
            yield piece


def _indented(lead: Text, text: Text, margin: int, width: int) -> Iterator[Text]:
    for number, line in enumerate(_broken(text, max(1, width - margin)).split("\n")):
        yield Text.assemble(lead if number == 0 and lead else " " * margin, line)
