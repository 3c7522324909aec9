"""The lock of a group: on the ledger, which planning, submitting and collecting share."""

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
from runplan.files.file_names import LEDGER

WAIT_S = 20.0
STEP_S = 0.05
NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL})
"""What a file system without `flock` answers (Lustre mounted without `-o flock`)."""


class GroupLock(NamedTuple):
    """A group's lock, held."""

    handle: int
    """A program that inherits this open file keeps the lock until it ends, even if this process is killed before."""
    is_exclusive: bool
    """False where the file system has no locks: nobody else is kept out then."""


@contextmanager
def group_lock(group: Path, wait_s: float = WAIT_S) -> Iterator[GroupLock]:
    """Hold a group's lock.

    The kernel releases the lock when the last process that holds it ends, however it ends.

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
                yield GroupLock(handle, locked)
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
