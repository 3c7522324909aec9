from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runplan.files import staging
from runplan.files.existing_group import is_own

HERE = Path(__file__).parent


@pytest.fixture
def fast_folder(tmp_path_factory):
    """In memory where there is such a place: hundreds of groups are written and removed."""
    memory = Path("/dev/shm")
    folder = memory / f"runplan-test-{os.getpid()}" if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("killed")
    folder.mkdir(exist_ok=True)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(("case", "least"), [("new", 80), ("changed", 100)])
def test_killed_at_any_point_no_run_is_half_written_and_the_next_call_completes_the_group(case, least, fast_folder):
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")]), str(HERE.parent)]
    done = subprocess.run(
        [sys.executable, str(HERE / "killed_writer.py"), str(fast_folder), case],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["points"] >= least


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def leftover(group: Path, pid: int) -> Path:
    root = group / f".tmp-{pid}"
    (root / "old").mkdir(parents=True)
    (root / "new").mkdir()
    return root


def test_displaced_runs_come_back_and_staging_goes(tmp_path):
    root = leftover(tmp_path, 12)
    (root / "old" / "a").mkdir()
    (root / "old" / "a" / "mine.txt").write_text("mine")
    (root / "old" / "b").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "new.txt").write_text("new")
    staging.recover(tmp_path)
    assert (tmp_path / "a" / "mine.txt").read_text() == "mine"
    assert names(tmp_path / "b") == ["new.txt"]
    assert names(tmp_path) == ["a", "b"]


def test_only_our_own_names_and_only_those_that_may_go(tmp_path):
    leftover(tmp_path, 12)
    leftover(tmp_path, 13)
    for name in (".tmp-x", ".tmp-1b", "tmp-12", ".tmp-"):
        (tmp_path / name).mkdir()
    staging.recover(tmp_path, may_remove=lambda pid: pid == 13)
    assert names(tmp_path) == [".tmp-", ".tmp-12", ".tmp-1b", ".tmp-x", "tmp-12"]


def test_without_hard_links_files_are_copied(tmp_path, monkeypatch):
    run = tmp_path / "a"
    run.mkdir()
    (run / "mine.txt").write_text("mine")
    (run / "finetune.yaml").write_text("old")

    def no_links(*_args, **_kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    stage = staging.Staging(tmp_path)
    stage.add_successor("a", {"finetune.yaml": "new"}, set(), is_own)
    stage.place_run("a")
    staging.recover(tmp_path)
    assert {path.name: path.read_text() for path in run.iterdir()} == {"mine.txt": "mine", "finetune.yaml": "new"}


def test_short_writes_are_finished(tmp_path, monkeypatch):
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, bytes(data[:3])))
    staging.write_text(str(tmp_path / "a"), "longer than three bytes")
    assert (tmp_path / "a").read_text() == "longer than three bytes"
