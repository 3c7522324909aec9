"""The ledger of a group and the records of its jobs, on disk.

A ledger only grows; every line is on disk before the next step is taken. Whoever appends holds the group's lock
(`group_lock.py`). What the lines mean is in `attempts.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runplan.files.file_names import LEDGER, RECORDS
from runplan.jobs.attempts import Ledger, Record, now, parse_ledger, parse_records


def read_ledger(group: Path) -> Ledger:
    """A group's ledger; empty when nothing was submitted."""
    return parse_ledger(_text(group / LEDGER))


def read_records(directory: Path) -> tuple[Record, ...]:
    """What the jobs of a directory wrote; empty when none began."""
    return parse_records(_text(directory / RECORDS))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""


def append(group: Path, events: Sequence[Mapping[str, Any]]) -> None:
    """Add lines to a group's ledger; they are on disk when this returns.

    A line that a crash cut short is closed first, so that it spoils nothing but itself.

    Raises:
        OSError: the ledger cannot be written; part of a line may be there.
    """
    path = group / LEDGER
    lines = "".join(json.dumps({**event, "time": event.get("time", now())}) + "\n" for event in events).encode()
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        size = os.fstat(handle).st_size
        if size and os.pread(handle, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        while lines:
            lines = lines[os.write(handle, lines) :]
        os.fsync(handle)
    finally:
        os.close(handle)
