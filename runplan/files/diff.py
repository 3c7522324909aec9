"""What planning again changed, and how an old and a new plan become one. Pure; documents are those of `plan.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runplan.config import open_key
from runplan.naming import concerns_control
from runplan.units import some_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

NOT_OF_A_RUN = (
    "preview", "overwrite", "controls", "naming", "submit", "priors", "group", "budget", "verify", "sweep",
    "estimator", "site.priors", "site.gpu", "site.output_root",
)  # fmt: skip
"""Keys that say how to plan, not what a run is."""
CHANGES_SHOWN = 6
RUNS_SHOWN = 4
ESTIMATED = ("estimate.", "gpu_hours.", "cells")
"""Parts of a run's entry that are figures: of many, how many there are says enough."""
_MISSING = object()


@dataclass(frozen=True)
class Change:
    """One key that is not what it was; a file has no values."""

    key: str
    old: Any = None
    new: Any = None

    def __str__(self) -> str:
        """`config.lr 1e-05 → 0.0001`, of lists what one lacks of the other, or the file's name."""
        if self.old is None and self.new is None:
            return self.key
        if self.key == "orphaned":
            return "planned again"
        if isinstance(self.old, list) and isinstance(self.new, list):
            pairs = list(zip(self.old, self.new, strict=False))
            if len(self.old) == len(self.new) and all(isinstance(item, Mapping) for pair in pairs for item in pair):
                inner = [(i, change) for i, pair in enumerate(pairs) for change in changed_keys(*pair)]
                return ", ".join(f"{self.key}[{i}].{change}" for i, change in inner)
            gone = [item for item in self.old if item not in self.new]
            come = [item for item in self.new if item not in self.old]
            if gone or come:
                return f"{self.key} {json.dumps(gone)} → {json.dumps(come)}"
        return f"{self.key} {json.dumps(self.old)} → {json.dumps(self.new)}"


@dataclass(frozen=True)
class GroupDiff:
    """What planning again does to a group, by run name; empty for a new group that holds nothing yet."""

    added: tuple[str, ...] = ()
    changed: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    unchanged: tuple[str, ...] = ()
    orphaned: tuple[str, ...] = ()
    """Of the old plan, not of the new one; their directories stay."""
    ran: tuple[str, ...] = ()
    """Submitted or with results, kept as they are."""
    outdated: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    """Those of them whose model has been replaced, with what would now be written differently."""

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.added or self.changed or self.orphaned or self.outdated)

    def lines(self, *, full: bool = False) -> list[str]:
        """The changes as lines for people; none when nothing changed.

        Args:
            full: every change, each on a line of its own; else the first few in one line a run.
        """
        if not self:
            return []
        lines = [f"+ {name}" for name in self.added]
        for name, changes in self.changed.items() if full else ():
            lines += [f"~ {name}", *(f"    {change}" for change in changes)]
        lines += [] if full else _alike(self.changed.items())
        lines += [f"? {name}: no longer planned; its directory is left as it is" for name in self.orphaned]
        if self.ran:
            lines.append(f"= already run, kept as they are: {', '.join(self.ran)}")
        lines += _alike(self.outdated.items(), "! another model by now, overwrite=true takes it: ")
        if self.unchanged:
            lines.append(f"= unchanged: {len(self.unchanged)}")
        return lines


def _alike(changed: Iterable[tuple[str, Sequence[Change]]], sign: str = "~ ") -> list[str]:
    """A line for all runs that change alike: their names, and the first of the changes."""
    runs: dict[str, list[str]] = {}
    for name, changes in changed:
        runs.setdefault(_first(changes), []).append(name)
    return [f"{sign}{some_of(names, RUNS_SHOWN)}: {said}" for said, names in runs.items()]


def _first(changes: Sequence[Change]) -> str:
    """The first few changes in a line, figures of the estimate last."""
    figures = [change for change in changes if change.key.startswith(ESTIMATED)]
    others = [change for change in changes if change not in figures]
    shown = [*others, *([] if others and len(changes) > CHANGES_SHOWN else figures)][:CHANGES_SHOWN]
    more = [f"and {len(changes) - len(shown)} more"] if len(changes) > len(shown) else []
    return ", ".join([*map(str, shown), *more])


def entries(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The runs of a plan document by name."""
    return {run["name"]: run for run in document["runs"]}


def compare(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    changed_files: Mapping[str, Collection[str]],
    ran: Collection[str] = (),
    outdated: Mapping[str, tuple[Change, ...]] | None = None,
) -> GroupDiff:
    """What changes from one plan document to the next.

    Args:
        old: the group's document so far.
        new: the one that takes its place, merged already.
        changed_files: run → its files whose text changes, for runs that are there already.
        ran: runs that are kept as they are.
        outdated: of these, what would be written otherwise because the model is another one.
    """
    before, after = entries(old), entries(new)
    planned = {name: entry for name, entry in after.items() if not entry.get("orphaned")}
    changed = {}
    for name, entry in planned.items():
        if name in before:
            changes = tuple(changed_keys(before[name], entry))
            files = changed_files.get(name, ())
            if all(change.key.startswith(ESTIMATED) for change in changes):
                changes = (*(Change(path) for path in sorted(files)), *changes)
            if changes:
                changed[name] = changes
    common = [name for name in planned if name in before and name not in changed]
    kept = [name for name in planned if name in ran]
    return GroupDiff(
        added=tuple(name for name in planned if name not in before),
        changed=changed,
        unchanged=tuple(name for name in common if name not in ran),
        orphaned=tuple(name for name in before if name not in planned),
        ran=tuple(kept),
        outdated=outdated or {},
    )


def merge(old: Mapping[str, Any], new: Mapping[str, Any], kept: Collection[str]) -> dict[str, Any]:
    """A plan document in which the runs in `kept` keep their old entries.

    Those that the new plan lacks are marked `"orphaned": true`, stand before the controls (controls: at the end) and
    do not count in the totals.
    """
    before = entries(old)
    runs = [before[run["name"]] if run["name"] in kept and run["name"] in before else run for run in new["runs"]]
    runs = [{key: value for key, value in run.items() if key != "orphaned"} for run in runs]
    names = {run["name"] for run in runs}
    orphans = [before[name] | {"orphaned": True} for name in before if name in kept and name not in names]
    everything = [*runs, *orphans]
    controls = [run for run in everything if run["type"] == "control"]
    return {**new, "runs": [run for run in everything if run["type"] != "control"] + controls}


def user_changes(old: Mapping[str, Any], new: Mapping[str, Any], *, trained: bool = True) -> list[Change]:
    """Keys of a run that its user set differently in two composed trees, marks unresolved.

    Keys that say how to plan do not count, nor do keys that only one version of runplan knows, nor, where nothing is
    trained, keys of training.
    """
    return [
        change
        for change in _compare_leaves(old, new)
        if not any(change.key == key or change.key.startswith(f"{key}.") for key in NOT_OF_A_RUN)
        and (trained or concerns_control(change.key))
    ]


def _compare_leaves(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    before, after = dict(flatten(old)), dict(flatten(new))
    for key in dict.fromkeys([*before, *after]):
        one, other = before.get(key, _MISSING), after.get(key, _MISSING)
        lacking = one is _MISSING or other is _MISSING
        if lacking and not open_key(key):  # it came with another version of runplan
            continue
        if not same(one, other):
            yield Change(key, None if one is _MISSING else one, None if other is _MISSING else other)


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Change]:
    """Every key, dotted, whose value differs between two entries."""
    if old == new:
        return
    before, after = dict(flatten(old)), dict(flatten(new))
    for key in dict.fromkeys([*before, *after]):
        if not same(before.get(key), after.get(key)):
            yield Change(key, before.get(key), after.get(key))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal as numbers or text: 1 and 1.0 are, 1 and True are not."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested mappings by dotted key; lists are leaves."""
    for key, value in tree.items():
        if hasattr(value, "items") and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif not (hasattr(value, "items")):
            yield f"{prefix}{key}", value
