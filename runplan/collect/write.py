"""Puts results into a group: a table, pictures, and what stands between the markers of its README and its page."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from runplan.collect.figures import CURVES, EFFECTS, ESTIMATED
from runplan.collect.sections import FOLDER
from runplan.files import staging
from runplan.files.file_names import PAGE, README, RESULTS
from runplan.files.group_lock import group_lock
from runplan.os_errors import spoken
from runplan.report.page import report
from runplan.summary.readme import readme_of, with_results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from jinja2 import Environment

_MADE = {PAGE: report, README: readme_of}


def write_results(
    directory: Path,
    files: Mapping[str, str],
    parts: Mapping[str, str],
    document: Mapping[str, Any],
    templates: Environment,
) -> tuple[str, ...]:
    """Write what differs from what is there; returns its paths, relative to the group.

    Everything is staged first, so that a full disk changes nothing; then every file is renamed into place, the README
    last. Pictures of an earlier call that have nothing to show any more are removed.

    Args:
        directory: the group.
        files: path relative to the group → text.
        parts: what stands between the markers of `README.md` and of `report.html`; the rest of them stays as it is.
        document: the plan, for a README or a page that is not there any more.
        templates: for the same.

    Raises:
        StoreError: the group cannot be written, or another runplan is at work there.
    """
    with spoken(directory, "collect"), group_lock(directory) as lock:
        staging.recover(directory, may_remove=lambda pid: lock.is_exclusive or pid == os.getpid())
        wanted = {**files}
        for name, part in parts.items():
            present = _text(directory / name)
            whole = _MADE[name](document, str(directory), templates) if present is None else present
            wanted[name] = with_results(whole, part)
        changed = {path: text for path, text in wanted.items() if _text(directory / path) != text}
        if changed:
            _put(directory, changed)
        with suppress(OSError):  # what it holds may be what it held: `status` asks for its time
            os.utime(directory / RESULTS)
        for name in (EFFECTS, CURVES, ESTIMATED):
            if f"{FOLDER}/{name}" not in files:
                (directory / FOLDER / name).unlink(missing_ok=True)
    return tuple(changed)


def _put(directory: Path, changed: Mapping[str, str]) -> None:
    try:
        stage = staging.Staging(directory)
        for path, text in changed.items():
            stage.add_file(path, text)
        for path in changed:
            stage.place_file(path)
    finally:
        staging.recover(directory, may_remove=lambda pid: pid == os.getpid())


def _text(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
