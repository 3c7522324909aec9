"""Directories that appear whole or not at all: written in a staging folder of the group, then renamed into place.

    <group>/.tmp-<pid>/new/<run>/…    written first, all of it
    <group>/.tmp-<pid>/old/<run>/     a run that is replaced, until its successor stands

A process killed at any point leaves every run as it was, as it shall be, or (between two renames) in `old/`, from
where `recover` brings it back. Files in a run that are not ours move along as hard links, so they exist throughout.
"""

from __future__ import annotations

import os
import re
import shutil
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

TEMPORARY = re.compile(r"\.tmp-(\d+)")


def write_text(path: str, text: str) -> None:
    """A new file with that text; scripts (`.sh`) may be executed."""
    data = memoryview(text.encode("utf-8", "surrogateescape"))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o777 if path.endswith(".sh") else 0o666)
    try:
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)


@lru_cache(maxsize=1024)
def _folders(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Every folder that relative paths need, parents first."""
    needed: dict[str, None] = {}
    for path in paths:
        parts = path.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            needed["/".join(parts[:depth])] = None
    return tuple(needed)


def write_tree(root: str, files: Mapping[str, str]) -> None:
    """A new directory `root` with files by relative path."""
    os.mkdir(root)
    for folder in _folders(tuple(files)):
        os.mkdir(f"{root}/{folder}")
    for path, text in files.items():
        write_text(f"{root}/{path}", text)


class Staging:
    """The staging folder of one process in one group."""

    def __init__(self, group: Path) -> None:
        self.group = str(group)
        self.root = f"{self.group}/.tmp-{os.getpid()}"
        self.folders: set[str] = set()
        os.mkdir(self.root)
        os.mkdir(f"{self.root}/new")
        os.mkdir(f"{self.root}/old")

    def add_run(self, run: str, files: Mapping[str, str]) -> None:
        """Write a whole run; it takes its place at `place_run`."""
        write_tree(f"{self.root}/new/{run}", files)

    def add_successor(
        self, run: str, files: Mapping[str, str], unchanged: Collection[str], is_own: Callable[[str], bool]
    ) -> None:
        """Write a run that replaces the one that is there, whose unchanged and foreign files move along."""
        target, source = f"{self.root}/new/{run}", f"{self.group}/{run}"
        write_tree(target, {path: text for path, text in files.items() if path not in unchanged})
        for folder, subfolders, names in os.walk(source):
            relative = os.path.relpath(folder, source)
            prefix = "" if relative == "." else f"{relative}/"
            links = [name for name in subfolders if os.path.islink(f"{folder}/{name}")]
            for name in [*names, *links]:
                path = f"{prefix}{name}"
                if path in unchanged or not (path in files or is_own(path)):
                    os.makedirs(f"{target}/{prefix}", exist_ok=True)
                    _link(f"{folder}/{name}", f"{target}/{path}")
            if not (names or subfolders):
                os.makedirs(f"{target}/{prefix}", exist_ok=True)

    def add_file(self, path: str, text: str) -> None:
        """Write one file, for `place_file`."""
        target = f"{self.root}/new/{path}"
        folder = os.path.dirname(target)
        if folder not in self.folders:
            os.makedirs(folder, exist_ok=True)
            self.folders.add(folder)
        write_text(target, text)

    def place_run(self, run: str) -> None:
        """Move a written run into place, in front of the one that is there."""
        place = f"{self.group}/{run}"
        if os.path.lexists(place):
            os.rename(place, f"{self.root}/old/{run}")
        os.rename(f"{self.root}/new/{run}", place)

    def place_file(self, path: str) -> None:
        """Move a written file into place, over the one that is there."""
        target = f"{self.group}/{path}"
        folder = os.path.dirname(target)
        if folder != self.group:
            os.makedirs(folder, exist_ok=True)
        os.replace(f"{self.root}/new/{path}", target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        # a file system without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def recover(group: Path, *, may_remove: Callable[[int], bool] = lambda _pid: True) -> None:
    """Undo what killed processes left in a group: put back displaced runs, remove staging folders.

    Args:
        group: a directory that this process has locked.
        may_remove: whether the staging folder of a process may go; all may where a lock keeps others out.
    """
    for name in os.listdir(group):
        match = TEMPORARY.fullmatch(name)
        if not match or not may_remove(int(match[1])):
            continue
        root = f"{group}/{name}"
        displaced = f"{root}/old"
        if os.path.isdir(displaced):
            for run in os.listdir(displaced):
                if not os.path.lexists(f"{group}/{run}"):
                    os.rename(f"{displaced}/{run}", f"{group}/{run}")
        shutil.rmtree(root)
