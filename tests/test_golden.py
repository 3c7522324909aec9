"""Whole groups, file by file, against tests/golden/: what a change does to the files that users get is seen here.

RUNPLAN_REGEN=1 accepts what is written now; look at `git diff tests/golden` before committing it.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest
import yaml
from factories_plan import make_plan

from runplan.files.group_files import by_run
from runplan.files.render import environment, render
from runplan.files.store import write_group
from runplan.paths import RECIPES_DIR, TEMPLATES_DIR

GOLDEN = Path(__file__).parent / "golden"
REGEN = os.environ.get("RUNPLAN_REGEN", "") not in {"", "0"}
ACCEPT = "RUNPLAN_REGEN=1 python -m pytest tests/test_golden.py && git diff tests/golden"
DIFF_LINES = 60
HOSTILE = "a'; echo x"
TRAPS = '"$(rm -rf ~)" `id` \\ \n#SBATCH --time=1 日本'
CASES = {
    "ranks": {},
    HOSTILE: {
        "factors": {"system_prompt": [f"{HOSTILE} {TRAPS}", ""], "lora.rank": [4]},
        "group": HOSTILE,
        "directory": f"/out put/{HOSTILE}",
        "extra": {
            "epochs": 2,
            "prompt": "Q: {input} = 'a', \"b\"\n%j $HOME",
            "dataset.path": f"/data/my files/{HOSTILE}.json",
            "site.models_dir": "/my models",
            "site.wandb_project": HOSTILE,
            "site.env": {"GREETING": f"{HOSTILE} $HOME"},
        },
    },
    "two_gpus": {
        "factors": {"optimizer.lr": [1e-5, 3e-4], "seed": [1, 2]},
        "extra": {"resources.gpus": 2, "validation": False, "evaluation.enabled": False},
        "controls": False,
    },
}  # fmt: skip


@cache
def rendered(case: str) -> dict[str, str]:
    """The files of a group but for shipped recipes, which are in runplan/recipes."""
    settings = dict(CASES[case])
    files = render(make_plan(settings.pop("factors", None), **settings), environment(TEMPLATES_DIR))
    recipes = {path: text for path, text in files.items() if (RECIPES_DIR / Path(path).name).is_file()}
    for path, text in recipes.items():
        assert text == (RECIPES_DIR / Path(path).name).read_text(encoding="utf-8"), path
    return {path: text for path, text in files.items() if path not in recipes}


def stored(case: str) -> dict[str, str]:
    folder = GOLDEN / case
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes().decode() for path in paths}


def store(case: str, files: dict[str, str]) -> None:
    shutil.rmtree(GOLDEN / case, ignore_errors=True)
    for path, text in files.items():
        target = GOLDEN / case / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text.encode())


def difference(old: dict[str, str], new: dict[str, str]) -> str:
    lines: list[str] = []
    for path in sorted(old.keys() | new.keys()):
        before, after = old.get(path, "").splitlines(), new.get(path, "").splitlines()
        lines += difflib.unified_diff(before, after, f"golden/{path}", f"now/{path}", lineterm="", n=1)
    more = [f"… {len(lines) - DIFF_LINES} more lines"] if len(lines) > DIFF_LINES else []
    return "\n".join([*lines[:DIFF_LINES], *more])


@pytest.mark.parametrize("case", CASES)
def test_a_group_is_what_it_was(case):
    if REGEN:
        store(case, rendered(case))
    if stored(case) != rendered(case):
        pytest.fail(f"{difference(stored(case), rendered(case))}\n\nto accept it: {ACCEPT}", pytrace=False)


def test_no_golden_group_is_left_over():
    assert {path.name for path in GOLDEN.iterdir()} == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_script_parses(case, tmp_path):
    scripts = {path: text for path, text in rendered(case).items() if path.endswith((".sh", ".slurm"))}
    assert scripts
    for path, text in scripts.items():
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{path}: {done.stderr}"
        assert not done.stderr, path


@pytest.mark.parametrize("case", CASES)
def test_every_other_file_parses(case):
    for path, text in rendered(case).items():
        if path.endswith(".yaml"):
            assert yaml.safe_load(text) is not None, path
        if path.endswith(".json"):
            json.loads(text)


@pytest.mark.parametrize("case", CASES)
def test_written_groups_hold_what_was_rendered(case, tmp_path):
    settings = dict(CASES[case])
    settings["directory"] = str(tmp_path / settings.get("group", case))
    plan = make_plan(settings.pop("factors", None), **settings)
    files = render(plan, environment(TEMPLATES_DIR))
    write_group(plan, by_run(files))
    found = {str(path.relative_to(plan.directory)) for path in Path(plan.directory).rglob("*") if path.is_file()}
    assert found == {*files, "ledger.jsonl"}
    assert write_group(plan, by_run(files)).written == ()


def test_a_difference_shows_what_to_do():
    text = difference({"a": "x\ny\n", "gone": "1\n"}, {"a": "x\nz\n"})
    assert "-y\n+z" in text
    assert "-1" in text
    assert "more lines" in difference({"a": "x\n" * 100}, {})
