"""What the file system says, as errors that say where and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runplan.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

HINTS = {
    errno.ENOSPC: "the disk is full; free some space and plan again",
    errno.EDQUOT: "your quota is used up; free some space and plan again",
    errno.EACCES: "set site.output_root to a folder you may write",
    errno.EPERM: "set site.output_root to a folder you may write",
    errno.EROFS: "set site.output_root to a folder you may write",
    errno.ENOTDIR: "a file stands where a folder should be; set site.output_root or group.name",
    errno.EEXIST: "a file stands where a folder should be; set site.output_root or group.name",
    errno.ENAMETOOLONG: "choose a shorter group.name or site.output_root",
}

OTHER = "see that the folder can be written and plan again"


@contextmanager
def spoken(directory: Path, verb: str = "plan") -> Iterator[None]:
    """Turn an OSError into a StoreError that names the place, `directory` when the system does not, and the way out.

    Args:
        directory: where the work is.
        verb: what to do again when the way is free.
    """
    try:
        yield
    except OSError as error:
        place = error.filename or str(directory)
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        # keys of the configuration help where planning chose the place, nobody else
        hint = HINTS.get(error.errno or 0, OTHER) if verb == "plan" or full else OTHER
        hint = hint.replace("plan again", f"{verb} again")
        raise StoreError(f"{place}: {error.strerror or error}; {hint}") from error
