"""Free space where a group will be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from runplan.facts import DiskFacts


def read_disk(path: Path) -> DiskFacts:
    """Free bytes of the file system that `path` will be on; None when it cannot be told. Quotas are not known."""
    for parent in (path, *path.parents):
        try:
            return DiskFacts(str(path), shutil.disk_usage(parent).free)
        except OSError:  # not there yet, or not ours to look at
            continue
    return DiskFacts(str(path))
