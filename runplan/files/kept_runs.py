"""Runs that are kept because they were submitted: a plan that would change one is refused, or the change said. Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runplan import yaml_text
from runplan.errors import StoreError
from runplan.files.diff import Change, changed_keys, user_changes
from runplan.files.file_names import COMPOSED_CONFIG, SETUP, TRAINER_CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping

    Texts = Mapping[str, Mapping[str, str]]

FACTS = ("model", "tokenizer", "checkpointer")
"""Parts of the trainer's configuration that say what a model is, whatever is estimated."""


def refuse_changed_keys(planned: Texts, there: Texts) -> None:
    """Refuse a plan in which the user set keys of a kept run otherwise.

    Args:
        planned: run → path → text, as planned now.
        there: the same of the kept runs, as they are on disk.

    Raises:
        StoreError: a key differs; all of them are named.
    """
    problems = []
    for name, texts in there.items():
        old, new = texts.get(COMPOSED_CONFIG), planned[name].get(COMPOSED_CONFIG)
        if old is None or new is None or old == new:
            continue
        problems += [
            f"  {name}: {change.key} was {_level(change.old)}, is now {_level(change.new)}"
            for change in user_changes(yaml_text.load(old), yaml_text.load(new), trained=SETUP in planned[name])
        ]
    if problems:
        head = "runs that were submitted or have results would change, nothing was written"
        fix = "  set these back, choose another group.name, or insist with overwrite=true"
        raise StoreError("\n".join([head, *problems, fix]))


def _level(value: Any) -> str:
    """A value as the config has it; a mark is what runplan works out."""
    return "worked out" if isinstance(value, str) and value.startswith("${rp.") else json.dumps(value)


def outdated(planned: Texts, there: Texts) -> dict[str, tuple[Change, ...]]:
    """Kept runs whose model is another one by now (its folder was replaced), with what differs in their file."""
    found = {}
    for name, texts in there.items():
        old, new = texts.get(TRAINER_CONFIG), planned[name].get(TRAINER_CONFIG)
        if old is None or new is None or old == new:
            continue
        trees = (yaml_text.load(old), yaml_text.load(new))
        changes = changed_keys(*({key: tree[key] for key in FACTS if key in tree} for tree in trees))
        if told := tuple(Change(f"{TRAINER_CONFIG} {one.key}", one.old, one.new) for one in changes):
            found[name] = told
    return found
