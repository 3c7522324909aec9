"""Levels in tables can be told apart."""

from __future__ import annotations

import pytest

from runplan.summary.levels import LEVEL_SHOWN, level_shown


@pytest.mark.parametrize(
    ("key", "levels", "shown"),
    [
        ("dataset.path", ["en/w.json", "de/w.json", "de/digits.json"], ["en/w.json", "de/w.json", "digits"]),
        ("dataset.path", ["/d/a/x/w.json", "/d/b/x/w.json"], ["a/x/w.json", "b/x/w.json"]),
        ("dataset.path", ["w.json", "a/w.json", "w.jsonl"], ["w.json", "a/w.json", "w.jsonl"]),
        ("model.path", ["/m/1B", "/n/1B/"], ["m/1B", "n/1B"]),
        ("system_prompt", ["a/b", "c/b", ""], ["a/b", "c/b", '""']),
        ("optimizer.lr", [1e-5, 3e-4], ["1e-5", "3e-4"]),
        ("system_prompt", ["x" * 99], ["x" * (LEVEL_SHOWN - 1) + "…"]),
    ],
)  # fmt: skip
def test_paths_are_stems_unless_these_are_the_same(key, levels, shown):
    assert [level_shown(key, level, levels) for level in levels] == shown
