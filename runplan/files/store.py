"""Writes a group: new runs appear whole, what is unchanged is not touched, what ran is kept.

Everything is staged first (`staging.py`), so a full disk or a missing permission changes nothing; then runs are
renamed into place, then README.md, plan.csv and submit_all.sh, and `plan.json` last. The lock is the one that
submitting takes, on `ledger.jsonl`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runplan.errors import RunplanError, StoreError
from runplan.files import staging
from runplan.files.diff import GroupDiff, compare, merge
from runplan.files.document import document_csv, document_text
from runplan.files.existing_group import ExistingRun, is_own, read_run, refuse_strangers, remove_if_empty, started_runs
from runplan.files.file_names import DOCUMENT, PAGE, PLAN_TABLE, README
from runplan.files.group_files import GroupFiles, RunFiles, Texts
from runplan.files.group_lock import group_lock
from runplan.files.kept_runs import outdated, refuse_changed_keys
from runplan.files.plan_shape import wrong_part
from runplan.os_errors import spoken
from runplan.plan import SCHEMA
from runplan.progress import counted
from runplan.report.page import report
from runplan.summary.readme import carry_results, readme_of

if TYPE_CHECKING:
    from jinja2 import Environment

    from runplan.plan import Plan


@dataclass(frozen=True)
class WriteResult:
    """What writing a group did."""

    document: Mapping[str, Any]
    """The plan document that the group now holds, runs that were kept included."""
    diff: GroupDiff
    written: tuple[str, ...] = ()
    """Paths relative to the group of what was written: runs and single files."""
    preview: bool = False
    """Whether this only says what writing would do."""
    texts: Mapping[str, str] = field(default_factory=dict)
    """Path → text of every planned file as writing would leave it, made when asked for; for a preview only."""


@dataclass(frozen=True)
class _Changes:
    """What has to be written, by how it is written."""

    document: Mapping[str, Any]
    diff: GroupDiff
    new_runs: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    successors: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Runs that are there, did not run, and change."""
    present: Mapping[str, ExistingRun] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    """Single files: those of the group, and those of runs that ran and are overwritten."""
    stale: tuple[str, ...] = ()
    """Our files in such runs that the new plan does not have."""
    left: GroupFiles = field(default_factory=lambda: GroupFiles({}, {}))
    """Every planned file as it would be then: runs that are kept have their old texts."""


def write_group(
    plan: Plan, files: GroupFiles, *, overwrite: bool = False, templates: Environment | None = None
) -> WriteResult:
    """Write the files of a plan into its directory; nothing is written when nothing changed.

    Args:
        plan: says where.
        files: every file; those of new runs are made one run at a time, while they are written.
        overwrite: write over runs that were submitted or have results, and forget their old plan entries.
        templates: for the README of a group in which runs are kept; ours by default.

    Raises:
        StoreError: the place cannot be written, another runplan is at work there, or a key that the user set
            differs from that of a run that ran; nothing was changed then.
        RenderError: the files of a run cannot be made; nothing was changed then.
    """
    directory = Path(plan.directory)
    new = False
    try:
        with spoken(directory):
            refuse_strangers(directory, () if overwrite else files.paths())
            new = not directory.exists()
            directory.mkdir(parents=True, exist_ok=True)
            with group_lock(directory) as lock:
                staging.recover(directory, may_remove=(lambda _pid: True) if lock.is_exclusive else _is_dead)
                changes = _find_changes(plan, files, overwrite, templates)
                _carry_out(directory, changes)
    except RunplanError:
        if new:
            remove_if_empty(directory)
        raise
    names = (*changes.new_runs, *changes.successors, *changes.files)
    return WriteResult(changes.document, changes.diff, names)


def compare_group(
    plan: Plan, files: GroupFiles, *, overwrite: bool = False, templates: Environment | None = None
) -> WriteResult:
    """What `write_group` would say, for a preview; nothing is written and nothing is locked.

    Raises:
        StoreError: writing would be refused.
        RenderError: the files of a run cannot be made.
    """
    with spoken(Path(plan.directory)):
        refuse_strangers(Path(plan.directory), () if overwrite else files.paths())
        changes = _find_changes(plan, files, overwrite, templates)
        return WriteResult(changes.document, changes.diff, preview=True, texts=Texts(changes.left))


def read_document(directory: Path) -> dict[str, Any] | None:
    """A group's `plan.json`; None when there is none.

    Raises:
        StoreError: it is not JSON, or of a schema that this version does not know.
    """
    path = directory / DOCUMENT
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{path}: not JSON ({error}); move it away and plan again") from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise StoreError(f"{path}: schema {found!r}, this runplan knows {SCHEMA}; choose another group.name")
    return document


def edited(directory: Path, what: str) -> StoreError:
    """What to say of a group's `plan.json` that somebody changed."""
    path = directory / DOCUMENT
    return StoreError(f"{path}: not as runplan wrote it ({what}); move it away and plan the same again to get it back")


def _find_changes(plan: Plan, files: GroupFiles, overwrite: bool, templates: Environment | None) -> _Changes:
    directory = Path(plan.directory)
    if not directory.exists():
        return _Changes(json.loads(files.own[DOCUMENT]), GroupDiff(), files.runs, files=files.own, left=files)
    old = read_document(directory)
    if old is not None and (what := wrong_part(old)):
        raise edited(directory, what)
    there = dict.fromkeys(name for name in files.runs if os.path.lexists(directory / name))
    runs, present, changed = _differing(directory, files, there)
    known = [run["name"] for run in old["runs"]] if old else []
    ran = started_runs(directory, dict.fromkeys([*files.runs, *known]))
    kept = {name for name in ran if not (overwrite and name in files.runs)}
    before_of_kept = {name: present[name].texts for name in runs if name in kept}
    refuse_changed_keys(runs, before_of_kept)
    document, group_files = _merged(plan, old, files.own, kept, templates)
    touched = {name: paths for name, paths in changed.items() if name not in kept}
    insisted = [name for name in touched if name in ran or present[name].is_link]
    single = {f"{name}/{path}": runs[name][path] for name in insisted for path in touched[name] if path in runs[name]}
    stale = tuple(f"{name}/{path}" for name in insisted for path in touched[name] if path not in runs[name])
    before = {path: _text_of(directory / path) for path in group_files}
    held = {**runs, **before_of_kept}
    wanted = {path: _with_results(path, before[path], text) for path, text in group_files.items()}
    return _Changes(
        document,
        compare(old, document, touched, kept, outdated(runs, before_of_kept)) if old else GroupDiff(),
        RunFiles((name for name in files.runs if name not in there), files.runs.__getitem__),
        {name: runs[name] for name in touched if name not in insisted},
        present,
        single | {path: text for path, text in wanted.items() if before[path] != text},
        stale,
        GroupFiles(wanted, RunFiles(files.runs, lambda name: held[name] if name in held else files.runs[name])),
    )


def _differing(
    directory: Path, files: GroupFiles, there: Iterable[str]
) -> tuple[dict[str, Mapping[str, str]], dict[str, ExistingRun], dict[str, list[str]]]:
    """Of runs that are there and not as planned: their planned files, what is there, and the paths that differ."""
    runs: dict[str, Mapping[str, str]] = {}
    present: dict[str, ExistingRun] = {}
    changed: dict[str, list[str]] = {}
    for name in there:
        run = files.runs[name]
        found = read_run(directory, name, run)
        if paths := _changed_paths(run, found):
            runs[name], present[name], changed[name] = run, found, paths
    return runs, present, changed


def _changed_paths(files: Mapping[str, str], present: ExistingRun) -> list[str]:
    """Paths of one run that differ from what is there: new, changed, or ours but no longer planned."""
    changed = [path for path, text in files.items() if present.texts.get(path) != text]
    return changed + [path for path in present.own if path not in files]


def _merged(
    plan: Plan, old: Mapping[str, Any] | None, files: Mapping[str, str], kept: set[str], templates: Environment | None
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """The new document with the entries of runs that are kept, and the group's files that show it."""
    document: dict[str, Any] = json.loads(files[DOCUMENT])
    if old is None or not kept:
        return document, files
    document = merge(old, document, kept)
    if templates is None:
        from runplan.files.render import environment  # noqa: PLC0415 - render imports every part
        from runplan.paths import TEMPLATES_DIR  # noqa: PLC0415 - only groups that ran need it

        templates = environment(TEMPLATES_DIR)
    shown = {
        README: readme_of(document, plan.directory, templates),
        PAGE: report(document, plan.directory, templates),
        PLAN_TABLE: document_csv(document),
    }
    return document, {**files, **shown, DOCUMENT: document_text(document)}


def _text_of(path: Path) -> str | None:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None


def _with_results(path: str, before: str | None, text: str) -> str:
    return carry_results(before, text) if path in {README, PAGE} and before is not None else text


def _carry_out(directory: Path, changes: _Changes) -> None:
    """Stage everything, then put it into place: runs, files of the group, plan.json last."""
    if not (changes.new_runs or changes.successors or changes.files or changes.stale):
        return
    try:
        stage = staging.Staging(directory)
        for name in counted([*changes.new_runs], "writing {} runs"):
            stage.add_run(name, changes.new_runs[name])
        for name, files in changes.successors.items():
            texts = changes.present[name].texts
            unchanged = {path for path, text in files.items() if texts.get(path) == text}
            stage.add_successor(name, files, unchanged, is_own)
        for path, text in changes.files.items():
            stage.add_file(path, text)
        for name in counted([*changes.new_runs, *changes.successors], "placing {} runs"):
            stage.place_run(name)
        for path in sorted(changes.files, key=lambda path: (path == DOCUMENT, "/" not in path)):
            stage.place_file(path)
        for path in changes.stale:
            (directory / path).unlink(missing_ok=True)
    finally:
        staging.recover(directory, may_remove=lambda pid: pid == os.getpid())


def _is_dead(pid: int) -> bool:
    """Whether a process of this machine is gone; where there is no lock, that is all we can tell."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return pid == os.getpid()
