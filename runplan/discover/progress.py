"""One line on a terminal that says where `runplan init` is looking; nothing where there is no terminal."""

from __future__ import annotations

import shutil
from types import TracebackType
from typing import Self, TextIO

from runplan.discover.folders import Search
from runplan.summary.readme import visible

_CLEAR = "\r\x1b[K"


class Progress:
    """A line that is written over, and gone at the end."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._shown = False
        self._terminal = stream.isatty()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __call__(self, found: Search) -> None:
        """Say how far the search is."""
        if not self._terminal:
            return
        counts = f"{len(found.models)} models, {len(found.data)} data files, {sum(found.logs.values())} logs"
        line = f"looking through {visible(found.now)}: {found.folders} folders, {counts}"
        self._stream.write(_CLEAR + line[: shutil.get_terminal_size().columns - 1])
        self._stream.flush()
        self._shown = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the line away."""
        if self._shown:
            self._stream.write(_CLEAR)
            self._stream.flush()
