"""Shows how a group that runs on this machine gets on: redrawn in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runplan.jobs.look import look
from runplan.status.group import GroupStatus, group_status
from runplan.status.rows import heading
from runplan.status.screen import make_console, parts

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runplan.files.written import WrittenGroup

REDRAWN_S = 2.0
SAID_S = 60.0
"""How often a log gets a line."""
Say = Callable[[str], None]


@contextmanager
def shown_progress(group: WrittenGroup) -> Iterator[tuple[Say, Callable[[], None]]]:
    """What prints a line, and what is to be called again and again while jobs run."""
    console = make_console()
    if not console.is_terminal:
        yield _say, _NowAndThen(group, SAID_S, _say_heading)
        return
    from rich.console import Group  # noqa: PLC0415 - heavy
    from rich.live import Live  # noqa: PLC0415 - heavy

    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:

        def redraw(status: GroupStatus) -> None:
            shown: list[RenderableType] = list(
                parts(status, str(group.directory), console.width, cells=True, height=console.height - 2, advice=False)
            )
            live.update(Group(*shown), refresh=True)

        yield lambda line: live.console.print(line, soft_wrap=True), _NowAndThen(group, REDRAWN_S, redraw)


class _NowAndThen:
    """Looks at a group when some time has gone by."""

    def __init__(self, group: WrittenGroup, every_s: float, show: Callable[[GroupStatus], None]) -> None:
        self.group, self.every_s, self.show = group, every_s, show
        self.next = time.monotonic() + every_s

    def __call__(self) -> None:
        if time.monotonic() < self.next:
            return
        self.show(group_status(self.group, look(self.group)))
        self.next = time.monotonic() + self.every_s


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _say_heading(status: GroupStatus) -> None:
    for line in heading(status):
        if line:
            _say(f"  {line}")
