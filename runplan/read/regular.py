"""Opening files that others made: only regular ones, since a pipe would be waited for."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """The file, opened for reading.

    Raises:
        OSError: there is none, it is a folder, a pipe or a device, or it may not be read.
    """
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is not a regular file")
    return path.open("rb")
