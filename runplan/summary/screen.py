"""The plan summary on the screen: what the README says, what changed, where it was written."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import IO, TYPE_CHECKING

from runplan.files.document import plan_document
from runplan.files.file_names import PAGE
from runplan.summary.blocks import Block, Commands, Fact, Figure, Item, Section, Table
from runplan.summary.design import TIMES
from runplan.summary.overview import sections
from runplan.summary.readme import TITLE, visible
from runplan.summary.tree import tree_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console

    from runplan.files.diff import GroupDiff
    from runplan.files.store import WriteResult
    from runplan.plan import Plan

ROWS_SHOWN = 60
PIPED_WIDTH = 10_000
LEAST_COLUMNS = 4
GAP = 3
"""Spaces between two columns; one less where room is short."""
PLAIN = str.maketrans({"✓": "ok", "✗": "MISSING", TIMES: "x", "…": "...", "≤": "<=", "→": "->", "·": "-"})


def print_summary(
    plan: Plan, result: WriteResult | None = None, stream: IO[str] | None = None, width: int | None = None
) -> None:
    """Print the README's content for a terminal: tables aligned, plain when piped, colour unless NO_COLOR.

    Args:
        plan: what was planned.
        result: what writing did; None for a preview.
        stream: where to print; standard output by default.
        width: columns; None = the terminal's, unlimited when piped.
    """
    document = plan_document(plan) if result is None else result.document
    shown = sections(document, plan.directory)
    _print(TITLE, shown, lambda console: _print_outcome(console, plan, result), stream, width)


def print_sections(
    title: str,
    shown: Iterable[Section],
    closing: Sequence[str] = (),
    stream: IO[str] | None = None,
    width: int | None = None,
) -> None:
    """Print a title, sections and closing lines in the way of the plan summary."""

    def close(console: Console) -> None:
        console.print()
        for line in closing:
            console.print(visible(line), soft_wrap=True)

    _print(visible(title), shown, close, stream, width)


def _print(
    title: str,
    shown: Iterable[Section],
    close: Callable[[Console], None],
    stream: IO[str] | None,
    width: int | None,
) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy, and only needed here

    stream = stream or sys.stdout
    piped = not stream.isatty()
    wide = width or (PIPED_WIDTH if piped else None)
    console = Console(file=stream, width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)
    with console.capture() as captured:
        _heading(console, title)
        for section in shown:
            _heading(console, section.heading)
            for block in section.blocks:
                _print_block(console, block)
        close(console)
    text = "\n".join(line.rstrip() for line in captured.get().split("\n")) if piped else captured.get()
    stream.write(encodable(text, getattr(stream, "encoding", None)))
    stream.flush()


def encodable(text: str, encoding: str | None) -> str:
    """A text that a stream can take: signs beyond its encoding in words, or as `?`."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def _heading(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold")


def _print_block(console: Console, block: Block) -> None:
    if isinstance(block, Table):
        _print_table(console, block)
    elif isinstance(block, Fact):
        if block.code:  # to be copied: no line ends of ours
            console.print(f"  {block.label}: {visible(block.value)}", soft_wrap=True)
        else:
            _print_hanging(console, f"  {block.label}: {visible(block.value)}", "    ")
    elif isinstance(block, Item):
        style = {"✗": "red", "!": "yellow", "✓": "green"}.get(block.mark)
        _print_hanging(console, f"  {block.mark or '·'} {visible(block.text)}", "    ", style)
        if block.command:
            console.print(f"      {visible(block.command)}", soft_wrap=True)
    elif isinstance(block, Figure):
        console.print(f"  {block.title}: {visible(block.path)}", soft_wrap=True)
    elif isinstance(block, Commands):
        for line in block.lines:
            console.print(f"    {visible(line)}", soft_wrap=True)


def _print_hanging(console: Console, text: str, indent: str, style: str | None = None) -> None:
    """One paragraph, wrapped at words, all lines but the first indented; long words, such as paths, stay whole."""
    lines = textwrap.wrap(
        text,
        console.width,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
        replace_whitespace=False,
    )
    for line in lines or [text]:
        console.print(line, style=style, soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    from rich import box  # noqa: PLC0415 - heavy
    from rich.cells import cell_len  # noqa: PLC0415 - heavy
    from rich.table import Table as RichTable  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    table, left_out = _narrowed(table, console.width)
    widths, tight = _column_widths(table, console.width)
    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True, collapse_padding=tight)
    for header, width in zip(table.headers, widths, strict=True):
        shown.add_column(Text(header), width=width)
    for row in table.rows[:ROWS_SHOWN]:
        parts = zip(map(visible, row), widths, strict=True)
        shown.add_row(*(Text(cell if cell_len(cell) <= width else "\n".join(_parts(cell))) for cell, width in parts))
    before, console.width = console.width, PIPED_WIDTH
    console.print(shown, crop=False)
    console.width = before
    if len(table.rows) > ROWS_SHOWN:
        console.print(f"  … {len(table.rows) - ROWS_SHOWN} more rows in README.md")
    if left_out:
        _print_hanging(console, f"  … too narrow for {', '.join(left_out)}: see README.md", "    ")


def _narrowed(table: Table, available: int) -> tuple[Table, tuple[str, ...]]:
    """A table without the columns after the first that leave no room for the rest, and what these are called.

    Factors stand there, and a run's name has their levels.
    """
    left_out: list[str] = []
    while len(table.headers) > LEAST_COLUMNS and sum(_least_widths(table)) > _room(table, available):
        left_out.append(table.headers[1])
        rows = tuple((row[0], *row[2:]) for row in table.rows)
        table = Table((table.headers[0], *table.headers[2:]), rows)
    return table, tuple(left_out)


def _least_widths(table: Table) -> list[int]:
    """The width of each column when headers break at spaces and cells before a bracket, the first column nowhere."""
    from rich.cells import cell_len  # noqa: PLC0415 - heavy

    columns = list(zip(table.headers, *(map(visible, row) for row in table.rows[:ROWS_SHOWN]), strict=True))
    least = [max(map(cell_len, (*head.split(), *(part for cell in cells for part in _parts(cell)))))
             for head, *cells in columns]  # fmt: skip
    least[0] = max(map(cell_len, columns[0]))
    return least


def _room(table: Table, available: int) -> int:
    """Columns of the terminal for cells, when these stand close: the box leaves a space at both ends."""
    return available - 2 - (GAP - 1) * (len(table.headers) - 1)


def _column_widths(table: Table, available: int) -> tuple[list[int], bool]:
    """Widths at which a table fits a terminal by wrapping headers and cells in two, and whether columns move closer.

    A folded name loses its meaning (`1B_rank4_l`): headers break at spaces, cells before a bracket, the first column
    nowhere, and a table that still does not fit is left to the terminal to wrap.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - heavy

    columns = list(zip(table.headers, *(map(visible, row) for row in table.rows[:ROWS_SHOWN]), strict=True))
    widths = [max(map(cell_len, column)) for column in columns]
    least, room = _least_widths(table), _room(table, available)
    between = len(columns) - 1
    if sum(widths) <= room - between or sum(least) > room:
        return widths, False
    while sum(widths) > room:
        widest = max((i for i in range(len(widths)) if widths[i] > least[i]), key=lambda i: widths[i])
        widths[widest] -= 1
    return widths, True


def _parts(cell: str) -> list[str]:
    """`10.8 GiB (p95 11.9)` in two: what a narrow column shows on two lines."""
    return re.split(r" (?=\()", cell)


def _print_outcome(console: Console, plan: Plan, result: WriteResult | None) -> None:
    if result is not None:
        _print_diff(console, result.diff, full=result.preview)
    if result is None or result.preview:
        if result is not None:
            _print_files(console, plan.directory, result)
        text = f"Preview: nothing is written yet; the group would be {visible(plan.directory)}"
        console.print(f"\n{text}", soft_wrap=True)
        return
    state = "Written to" if result.written else "Nothing changed in"
    console.print(f"\n{state} {visible(plan.directory)}", soft_wrap=True)
    console.print(f"To look at: {visible(plan.directory)}/{PAGE}", soft_wrap=True)


def _print_files(console: Console, root: str, result: WriteResult) -> None:
    if result.texts:
        _heading(console, "Files")
    for line in tree_lines(root, result.texts, result.diff) if result.texts else ():
        console.print(f"  {line}", soft_wrap=True)


def _print_diff(console: Console, diff: GroupDiff, *, full: bool) -> None:
    lines = diff.lines(full=full)
    if lines:
        _heading(console, "Changes to this group")
    for line in lines:
        console.print(f"  {visible(line)}", soft_wrap=True)
