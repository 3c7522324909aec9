"""`runplan status GROUP [--json] [--cells] [--watch [SECONDS]]`: what every run of a group does.

Exit code 0: no job failed (all may still run) · 1: some job ended and not as it should · 2: wrong usage, or no group
there · 130: `--watch` was ended by Ctrl-C. `--json` says everything; its schema is in `document.py`.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from runplan.arguments import Arguments
from runplan.errors import StoreError
from runplan.files.written import read_group
from runplan.jobs.look import look
from runplan.pasting import pasted_word
from runplan.status.document import encode, status_document, status_text
from runplan.status.group import GroupStatus, group_status
from runplan.status.screen import make_console, parts, print_status

if TYPE_CHECKING:
    from rich.console import RenderableType

ANSWER_S = 15.0
"""SLURM's own commands wait half a minute for a controller that is down."""
WATCH_S = 10.0
LEAST_WATCH_S = 5.0
"""SLURM is asked at every look, and its controller is everybody's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Look at a group and print what its runs do; the exit code is in the docstring of this module."""
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    directory = Path(options.group)

    def now() -> GroupStatus:
        group = read_group(directory)
        return group_status(group, look(group, ANSWER_S))

    try:
        return _show(now, options, pasted_word(options.group))
    except StoreError as error:
        print(f"runplan: {error}", file=sys.stderr)  # noqa: T201 - the program's error channel
        return error.exit_code
    except OSError as error:
        print(f"runplan: {error.filename or options.group}: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="runplan status",
        description="Shows what every run of a group does: state, steps, speed against the plan, time left, memory.",
        epilog="Exit code 0: nothing failed, jobs may still run; 1: some job failed; 2: wrong usage, no group there.",
    )
    parser.add_argument("group", metavar="GROUP", help="the group's directory")
    parser.add_argument("--json", action="store_true", help="print everything as JSON; unknown is null")
    parser.add_argument("--cells", action="store_true", help="also show a line for every evaluation")
    parser.add_argument(
        "--watch", metavar="SECONDS", nargs="?", type=_interval, const=WATCH_S,
        help=f"look again every SECONDS (default {WATCH_S:g}, at least {LEAST_WATCH_S:g}) until all jobs are over",
    )  # fmt: skip
    return parser


def _interval(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not LEAST_WATCH_S <= seconds < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds of at least {LEAST_WATCH_S:g}: SLURM is asked every time"
        )
    return seconds


def _show(look: Callable[[], GroupStatus], options: argparse.Namespace, directory: str) -> int:
    looks = _looks(look, options.watch)
    if options.json:
        return _print_json(looks, directory, several=options.watch is not None)
    console = make_console()
    if options.watch is None or not console.is_terminal:
        status = None
        for status in looks:
            print_status(status, directory, console, cells=options.cells)
        return int(status.failed) if status else 0
    return _watch(looks, options, directory)


def _looks(look: Callable[[], GroupStatus], interval_s: float | None) -> Iterator[GroupStatus]:
    """One look, or one after the other until everything is over."""
    while True:
        status = look()
        yield status
        if interval_s is None or status.over:
            return
        sleep(interval_s)


def _print_json(looks: Iterator[GroupStatus], directory: str, *, several: bool) -> int:
    """One document; of several looks one document a line."""
    failed = False
    for status in looks:
        document = status_document(status, directory)
        sys.stdout.write(f"{encode(document)}\n" if several else status_text(document))
        sys.stdout.flush()
        failed = status.failed
    return int(failed)


def _watch(looks: Iterator[GroupStatus], options: argparse.Namespace, directory: str) -> int:
    """Redraw the status in place; at the end it stands there whole."""
    from rich.console import Group  # noqa: PLC0415 - heavy
    from rich.live import Live  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    console = make_console()
    status = None
    with Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop") as live:
        for status in looks:
            shown: list[RenderableType] = list(
                parts(status, directory, console.width, cells=options.cells, height=console.height - 1)
            )
            when = f"at {status.at.astimezone():%H:%M:%S}; again every {options.watch:g} s, Ctrl-C ends"
            live.update(Group(*shown, Text(when, "dim")), refresh=True)
    if status is None:
        return 0
    print_status(status, directory, console, cells=options.cells)
    return int(status.failed)
