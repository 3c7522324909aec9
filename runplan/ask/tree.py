"""The directory of a group as a tree, before it is written. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Folder = dict[str, Any]
"""Name → what is inside; empty for a file."""
MOST_RUNS = 4
"""Runs that are shown; the others are counted."""


def tree_lines(paths: Iterable[str], root: str, most: int = MOST_RUNS) -> list[str]:
    """Lines of a tree: the group's files, the first runs with theirs, and how many more there are.

    Args:
        paths: files relative to the group.
        root: what stands at the top.
        most: directories that are shown at the top level.
    """
    nested: Folder = {}
    for path in paths:
        here = nested
        for part in path.split("/"):
            here = here.setdefault(part, {})
    runs = [name for name, inside in nested.items() if inside]
    files = [name for name, inside in nested.items() if not inside]
    shown = {name: nested[name] for name in [*files, *runs[:most]]}
    hidden = len(runs) - most
    lines = [f"{root}/", *_branches(shown, "", more=hidden > 0)]
    return [*lines, f"└── … {hidden} more run{'s' * (hidden > 1)}"] if hidden > 0 else lines


def _branches(inside: Folder, indent: str, *, more: bool = False) -> list[str]:
    lines = []
    names = list(inside)
    for name in names:
        last = name == names[-1] and not more
        below = inside[name]
        lines.append(f"{indent}{'└── ' if last else '├── '}{name}{'/' if below else ''}")
        lines += _branches(below, indent + ("    " if last else "│   "))
    return lines
