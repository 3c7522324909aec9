"""Groups without a name are called after date and time; two calls in the same second make two groups."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.files.existing_group import remove_if_empty

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "%Y-%m-%d_%H-%M-%S"


def name_of_now(root: Path) -> str:
    """Date and time, and a number where a group of the same second is there: `2026-01-31_12-00-00_2`.

    Args:
        root: the folder in which the group will be.
    """
    now = datetime.now().astimezone().strftime(FORMAT)
    names = (f"{now}_{n}" if n > 1 else now for n in count(1))
    return next(name for name in names if not os.path.lexists(root / name))


def claim(directory: Path) -> bool:
    """Make a group's directory and so claim it for this call; False if another call was faster.

    True also where the directory cannot be made: writing the group will say why.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir()
    except OSError:
        return not os.path.lexists(directory)
    return True


@contextmanager
def released_if_empty(directory: Path) -> Iterator[None]:
    """Remove the directory at the end if nothing was written into it."""
    try:
        yield
    finally:
        remove_if_empty(directory)
