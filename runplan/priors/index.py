"""What was read before, kept in the user's cache directory so that only changed logs are read again.

One JSON file a search path, replaced whole: SQLite's locks are not to be trusted on the network file systems of
clusters. Two processes that write at once lose nothing but time, for what is missing is read again. A damaged,
foreign or unwritable index is as good as none.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from runplan.priors.files import LogFile

Entry = tuple[int, int, Sequence[Sequence[Any]], dict[str, Any] | None]
"""Size, modification time in ns, siblings, and the fields that were read (None: no training log)."""


@cache
def reader_version() -> int:
    """A number that changes with the code that reads logs, so that an index of other code is not used."""
    total = 0
    for source in sorted(Path(__file__).parent.glob("*.py")):
        with suppress(OSError):
            total = zlib.crc32(source.read_bytes(), total)
    return total


_dumps = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class Index:
    """The index of one search path."""

    def __init__(self, cache_dir: Path, search: str) -> None:
        # Two searches that share a file by chance only read more than they had to. (hashlib takes 5 ms to import.)
        name = search.encode("utf-8", "surrogateescape")
        self._file = cache_dir / "priors" / f"{zlib.crc32(name):08x}{zlib.adler32(name):08x}.json"
        self._entries: dict[str, Entry] = {}
        self._kept: dict[str, Entry] = {}
        self._new: dict[str, Entry] = {}

    def load(self) -> None:
        """Take over what an earlier call left; anything wrong with it means an empty index."""
        try:
            content = json.loads(self._file.read_bytes())
            if content["version"] == reader_version():
                self._entries = {path: entry for path, entry in content["logs"].items() if len(entry) == 4}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._entries = {}

    def get(self, log: LogFile) -> tuple[bool, dict[str, Any] | None]:
        """Whether the log is known as it is now, and the fields read then."""
        entry = self._entries.get(log.path)
        if entry is None or entry[0] != log.size or entry[1] != log.modified_ns:
            return False, None
        fields = entry[3]
        if entry[2] != [list(one) for one in log.siblings] or not isinstance(fields, dict | None):
            return False, None
        self._kept[log.path] = entry
        return True, fields

    def remembered(
        self, logs: Iterable[LogFile], read: Callable[[str], dict[str, Any] | None]
    ) -> Iterator[tuple[LogFile, dict[str, Any] | None]]:
        """What each log says: as it was read before, else as `read` finds it by its path."""
        for log in logs:
            hit, fields = self.get(log)
            if not hit:
                fields = read(log.path)
                self.put(log, fields)
            yield log, fields

    def put(self, log: LogFile, fields: dict[str, Any] | None) -> None:
        """Remember what a log says."""
        self._new[log.path] = (log.size, log.modified_ns, log.siblings, fields)

    def save(self) -> None:
        """Write the index when it changed; logs that are gone are forgotten. A full or read-only disk is no error."""
        if not self._new and len(self._kept) == len(self._entries):
            return
        import tempfile  # noqa: PLC0415 - 10 ms that most calls save

        text = _dumps({"version": reader_version(), "logs": self._kept | self._new})
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._file.parent, prefix=".index-")
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(name).replace(self._file)
            except OSError:
                Path(name).unlink(missing_ok=True)
                raise
