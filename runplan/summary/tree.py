"""The files a group would hold, drawn as a tree: each kind of run once, the others named. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from runplan.files.diff import GroupDiff
from runplan.summary.readme import visible

RUNS_SHOWN = 24
"""Runs that are named; more are counted."""
ALIKE_SHOWN = 4
"""Of runs with the same files to which the same happens, so many are named."""

_Tree = dict[str, "_Tree"]


def tree_lines(root: str, paths: Iterable[str], diff: GroupDiff) -> list[str]:
    """Lines that draw files below `root`, those of the group first, then its runs in order.

    Args:
        root: what the first line says.
        paths: relative to the group, `/` between parts.
        diff: what planning again does; runs are marked by it, all are new in a new group.
    """
    nested: _Tree = {}
    for path in paths:
        node = nested
        for part in path.split("/"):
            node = node.setdefault(part, {})
    files = [name for name, inside in nested.items() if not inside]
    runs = [name for name, inside in nested.items() if inside]
    entries: list[tuple[str, _Tree]] = [(visible(name), {}) for name in files]
    first: dict[str, str] = {}
    seen: Counter[tuple[str, str]] = Counter()
    hidden: Counter[tuple[str, str]] = Counter()
    for name in runs:
        alike = first.setdefault(repr(nested[name]), name)
        kind = (_mark(name, diff), alike)
        if seen[kind] == ALIKE_SHOWN or seen.total() == RUNS_SHOWN:
            hidden[kind] += 1
            continue
        seen[kind] += 1
        note = _note(*kind) if alike != name else kind[0]
        entries.append((f"{visible(name)}/{f'   {note}' if note else ''}", nested[name] if alike == name else {}))
    entries += [(f"… {number} more runs   {_note(*kind)}", {}) for kind, number in hidden.items()]
    return [f"{visible(root.rstrip('/'))}/", *_drawn(entries, "")]


def _note(mark: str, alike: str) -> str:
    return "; ".join(filter(None, (mark, f"files as in {visible(alike)}/")))


def _mark(name: str, diff: GroupDiff) -> str:
    if name in diff.ran:
        return "has run, stays as it is"
    if name in diff.changed:
        return "changes"
    if name in diff.unchanged:
        return "unchanged"
    return "new" if name in diff.added else ""


def _drawn(entries: list[tuple[str, _Tree]], indent: str) -> list[str]:
    lines = []
    for i, (label, inside) in enumerate(entries):
        last = i == len(entries) - 1
        lines.append(f"{indent}{'└── ' if last else '├── '}{label}")
        below = [(f"{visible(name)}{'/' * bool(more)}", more) for name, more in sorted(inside.items(), key=_hidden)]
        lines += _drawn(below, f"{indent}{'    ' if last else '│   '}")
    return lines


def _hidden(entry: tuple[str, _Tree]) -> bool:
    """Folders such as `.hydra` come last, else files keep their order."""
    return entry[0].startswith(".")
