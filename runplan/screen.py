"""The plan summary on the screen: what the README says, what changed, where it was written."""

from __future__ import annotations

import sys
from typing import IO, TYPE_CHECKING

from runplan.design import TIMES
from runplan.document import plan_document
from runplan.overview import Block, Commands, Fact, Item, Table, sections
from runplan.summary import TITLE, visible

if TYPE_CHECKING:
    from rich.console import Console

    from runplan.diff import GroupDiff
    from runplan.plan import Plan
    from runplan.store import WriteResult

ROWS_SHOWN = 60
PIPED_WIDTH = 10_000
FOLDABLE = 0.7
"""A table on a terminal narrower than this part of it is left to the terminal to wrap: folded cells lose letters."""
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
    from rich.console import Console  # noqa: PLC0415 - heavy, and only needed here

    stream = stream or sys.stdout
    piped = not stream.isatty()
    wide = width or (PIPED_WIDTH if piped else None)
    console = Console(file=stream, width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)
    with console.capture() as captured:
        document = plan_document(plan) if result is None else result.document
        _heading(console, TITLE)
        for section in sections(document, plan.directory):
            _heading(console, section.heading)
            for block in section.blocks:
                _print_block(console, block)
        _print_outcome(console, plan, result)
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
        console.print(f"  {block.label}: {visible(block.value)}")
    elif isinstance(block, Item):
        style = {"✗": "red", "!": "yellow", "✓": "green"}.get(block.mark)
        console.print(f"  {block.mark or '·'} {visible(block.text)}", style=style)
        if block.command:
            console.print(f"      {visible(block.command)}", soft_wrap=True)
    elif isinstance(block, Commands):
        for line in block.lines:
            console.print(f"    {visible(line)}", soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    from rich import box  # noqa: PLC0415 - heavy
    from rich.table import Table as RichTable  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True)
    for header in table.headers:
        shown.add_column(Text(header), overflow="fold")
    for row in table.rows[:ROWS_SHOWN]:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    width = console.width
    if width < FOLDABLE * _natural_width(table):
        console.width = PIPED_WIDTH
    console.print(shown, crop=False)
    console.width = width
    if len(table.rows) > ROWS_SHOWN:
        console.print(f"  … {len(table.rows) - ROWS_SHOWN} more rows in README.md")


def _natural_width(table: Table) -> int:
    """Columns that a table takes when nothing is folded, three between two cells."""
    rows = (table.headers, *table.rows[:ROWS_SHOWN])
    return sum(max(len(visible(row[i])) for row in rows) + 3 for i in range(len(table.headers)))


def _print_outcome(console: Console, plan: Plan, result: WriteResult | None) -> None:
    if result is not None:
        _print_diff(console, result.diff)
    if result is None or result.preview:
        text = f"Preview: nothing was written. Without preview=true it goes to {visible(plan.directory)}"
        console.print(f"\n{text}", soft_wrap=True)
        return
    state = "Written to" if result.written else "Nothing changed in"
    console.print(f"\n{state} {visible(plan.directory)}", soft_wrap=True)


def _print_diff(console: Console, diff: GroupDiff) -> None:
    lines = diff.lines()
    if lines:
        _heading(console, "Changes to this group")
    for line in lines:
        console.print(f"  {visible(line)}", soft_wrap=True)
