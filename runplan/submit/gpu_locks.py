"""Which GPUs of this machine jobs of this user hold, of whatever group: a locked file a GPU.

The job's process itself has the lock (it inherits the open file), so that the kernel gives it back when the job ends,
however it ends, and whether or not the call that started it is still there.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.naming import safe_name
from runplan.paths import cache_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def lock_dir() -> Path:
    """Where this machine's locks are; a cache directory may be shared by several machines."""
    return cache_dir() / "gpus" / safe_name(socket.gethostname())


def busy_gpus(gpus: Iterable[str]) -> dict[str, str]:
    """Those of some GPUs that a job holds, and the directory of its group."""
    found = {}
    for gpu in gpus:
        with suppress(OSError):  # nobody has used it yet, or there are no locks here
            handle = os.open(_path(gpu), os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found[gpu] = os.pread(handle, 4096, 0).decode("utf-8", "replace")
            finally:
                os.close(handle)
    return found


def take_gpus(gpus: Sequence[str], group: str) -> list[int] | None:
    """Open files with the locks of some GPUs, for a job to inherit and this process to close; None when one is held.

    Where files cannot be locked (a read-only home, a file system without locks), the GPUs are taken to be free.
    """
    handles: list[int] = []
    for gpu in gpus:
        try:
            handles.append(_take(gpu, group))
        except BlockingIOError:
            release(handles)
            return None
        except OSError:
            continue
    return handles


def release(handles: Iterable[int]) -> None:
    """Close files of locks; a job that inherited them keeps them."""
    for handle in handles:
        os.close(handle)


def _take(gpu: str, group: str) -> int:
    path = _path(gpu)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(handle, 0)
        os.pwrite(handle, group.encode("utf-8", "surrogateescape"), 0)
    except OSError:
        os.close(handle)
        raise
    return handle


def _path(gpu: str) -> Path:
    return lock_dir() / f"{safe_name(gpu)}.lock"
