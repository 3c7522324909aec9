"""Shows a group's status: a table as wide as the terminal, plain when piped."""

from __future__ import annotations

import sys
import textwrap
from collections import Counter
from typing import IO, TYPE_CHECKING

from runplan.jobs.observe import JobState
from runplan.status.advice import next_commands
from runplan.status.group import GroupStatus
from runplan.status.rows import (
    COLUMNS,
    LESS_IMPORTANT,
    RIGHT,
    Row,
    Said,
    failures,
    heading,
    rows,
    state_word,
    waits,
    warnings,
)
from runplan.summary.screen import PIPED_WIDTH, encodable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

GAP = 2
LEAST_ROWS = 3
"""Lines of the table that a redrawn screen keeps, however low it is."""
_WATCHED = (JobState.running, JobState.pending, JobState.held, JobState.unknown, JobState.completed)
"""Behind all that ended badly: what is shown first where there is no room for everything."""


def make_console(stream: IO[str] | None = None, width: int | None = None) -> Console:
    """A console for a stream (standard output): as wide as its terminal, without limit when piped."""
    from rich.console import Console  # noqa: PLC0415 - heavy, and only needed to show something

    stream = stream or sys.stdout
    wide = width or (None if stream.isatty() else PIPED_WIDTH)
    return Console(file=stream, width=wide, highlight=False, markup=False, emoji=False)


def print_status(status: GroupStatus, directory: str, console: Console, *, cells: bool = False) -> None:
    """Print a status once, every run of it.

    Args:
        status: the group's.
        directory: of the group, as commands name it.
        console: of `make_console`.
        cells: whether every evaluation has a line of its own.
    """
    with console.capture() as captured:
        for part in parts(status, directory, console.width, cells=cells):
            console.print(part, soft_wrap=True)
    text = captured.get()
    if not console.is_terminal:
        text = "\n".join(line.rstrip() for line in text.split("\n"))
    console.file.write(encodable(text, getattr(console.file, "encoding", None)))
    console.file.flush()


def parts(
    status: GroupStatus,
    directory: str,
    width: int,
    *,
    cells: bool = False,
    height: int | None = None,
    advice: bool = True,
) -> list[RenderableType]:
    """What is shown, from top to bottom, each part one line but the table.

    Args:
        status: the group's.
        directory: of the group, as commands name it.
        width: columns.
        cells: whether every evaluation has a line of its own.
        height: lines that there are; runs that do not fit are counted. None: no limit.
        advice: whether to say what to call next.
    """
    from rich.text import Text  # noqa: PLC0415 - heavy

    first, second = heading(status)
    above = [
        Text(line, style) for line, style in ((first, "bold"), (second, "")) if line for line in _wrapped(line, width)
    ]
    below: list[Text] = []
    for said in (*failures(status), *warnings(status), *waits(status)):
        below += _lines(said, width)
    commands = next_commands(status, directory) if advice else ()
    if commands:
        below += [Text("Next:"), *(Text(f"    {command}") for command in commands)]
    shown = rows(status, cells=cells)
    hidden: list[Text] = []
    if height is not None:
        room = max(LEAST_ROWS, height - len(above) - len(below) - 5)
        shown, left = _fitting(shown, room)
        hidden = [Text(f"  … {left}", "dim")] if left else []
    return [*above, _table(shown, width), *hidden, *below]


def _fitting(shown: tuple[Row, ...], room: int) -> tuple[tuple[Row, ...], str]:
    """The rows that matter most, in the order of the plan, and a word on the others."""
    if len(shown) <= room:
        return shown, ""
    place = {state: number for number, state in enumerate(_WATCHED)}
    order = sorted(range(len(shown)), key=lambda i: (place.get(shown[i].state, len(place)) if not
                   shown[i].state.ended_badly else -1, i))  # fmt: skip
    kept = sorted(order[:room])
    states = Counter(shown[i].state for i in order[room:])
    counts = ", ".join(f"{number} {state_word(state)}" for state, number in states.items())
    return tuple(shown[i] for i in kept), f"{len(shown) - room} more: {counts}"


def _table(shown: tuple[Row, ...], width: int) -> RenderableType:
    from rich import box  # noqa: PLC0415 - heavy
    from rich.cells import cell_len  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    columns = {name: [row.cells[i] for row in shown] for i, name in enumerate(COLUMNS)}
    widths = {
        name: max(map(cell_len, (name, *column)))
        for name, column in columns.items()
        if name in {"run", "state"} or any(column)
    }
    for name in LESS_IMPORTANT:
        if sum(widths.values()) + GAP * len(widths) <= width:
            break
        widths.pop(name, None)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True, collapse_padding=True)
    for name, wide in widths.items():
        table.add_column(Text(name), justify="right" if name in RIGHT else "left", width=wide, overflow="fold")
    for row in shown:
        table.add_row(
            *(
                Text(cell, row.style if name == "state" else "")
                for name, cell in zip(COLUMNS, row.cells, strict=True)
                if name in widths
            )
        )
    return table


def _lines(said: Said, width: int) -> list[Text]:
    from rich.text import Text  # noqa: PLC0415 - heavy

    mark = {"red": "x ", "yellow": "! "}.get(said.style, "  ")
    lines = [Text(line, said.style) for line in _wrapped(mark + said.text, width, "    ")]
    return [*lines, Text(f"    {said.copy}", no_wrap=True)] if said.copy else lines


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A paragraph in lines; long words, such as paths, stay whole."""
    return textwrap.wrap(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]  # fmt: skip
