"""Whose turn it is in a group: one lock for planning and submitting, on the ledger that both share."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from runplan.errors import StoreError
from runplan.file_names import LEDGER

WAIT_S = 20.0
STEP_S = 0.05
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system without `flock` answers (Lustre mounted without `-o flock`)."""


class Turn(NamedTuple):
    """A group's lock, held."""

    handle: int
    """A program that inherits it keeps the lock until it ends, should this process be killed before."""
    locked: bool
    """Whether the file system has locks at all."""


@contextmanager
def group_lock(group: Path, wait_s: float = WAIT_S) -> Iterator[bool]:
    """Hold a group's lock; yields whether the file system has locks at all.

    Raises:
        StoreError: see `group_turn`.
    """
    with group_turn(group, wait_s) as turn:
        yield turn.locked


@contextmanager
def group_turn(group: Path, wait_s: float = WAIT_S) -> Iterator[Turn]:
    """Hold a group's lock, which can be handed on to programs.

    The kernel gives the lock back when the last process that has it ends, however it ends.

    Raises:
        StoreError: another process held it for longer than `wait_s` seconds.
    """
    path = f"{group}/{LEDGER}"
    until = time.monotonic() + wait_s
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            locked = _take(handle, until)
            if locked is None:
                raise StoreError(
                    f"{group}: another runplan plans or submits this group (waited {wait_s:.0f} s); "
                    "try again when it is done, or choose another group.name"
                )
            if _is_current(handle, path):
                yield Turn(handle, locked)
                return
        finally:
            os.close(handle)


def _take(handle: int, until: float) -> bool | None:
    """True when locked, False where there are no locks, None when time ran out."""
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return None
            time.sleep(STEP_S)
        except OSError as error:
            if error.errno in NO_LOCKS:
                return False
            raise
        else:
            return True


def _is_current(handle: int, path: str) -> bool:
    """Whether the locked file is still the one at that path: its holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(handle), Path(path).stat())
    except FileNotFoundError:
        return False
