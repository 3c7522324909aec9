from __future__ import annotations

import errno
import fcntl
import subprocess
import sys
import threading

import pytest
from factories_plan import make_files, make_plan, plan_templates

from runplan.errors import StoreError
from runplan.files.group_files import by_run
from runplan.files.group_lock import group_lock
from runplan.files.store import write_group

HOLDER = """
import fcntl, sys
file = open(sys.argv[1], "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of the group in tmp_path."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "ledger.jsonl")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_waits_too_long_says_so(tmp_path, holder):
    with pytest.raises(StoreError, match="another runplan plans or submits this group"), group_lock(tmp_path, 0.1):
        pytest.fail("entered")


def test_a_killed_holder_gives_the_lock_back(tmp_path, holder):
    holder.kill()
    with group_lock(tmp_path, 5.0) as lock:
        assert lock.is_exclusive


def test_who_waits_gets_its_turn(tmp_path, holder):
    waiting = threading.Timer(0.1, holder.kill)
    waiting.start()
    with group_lock(tmp_path, 5.0) as lock:
        assert lock.is_exclusive
    waiting.join()


def test_file_systems_without_locks_are_used_without(tmp_path, monkeypatch):
    def refuse(*_args):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with group_lock(tmp_path) as lock:
        assert not lock.is_exclusive
    plan = make_plan(directory=str(tmp_path / "g"))
    assert write_group(plan, by_run(make_files(plan)), templates=plan_templates()).written


def test_two_plans_of_one_group_at_once_leave_the_tree_of_one(tmp_path):
    plan = make_plan({"seed": list(range(20))}, directory=str(tmp_path / "g"))
    files = make_files(plan)
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(write_group(plan, by_run(files), templates=plan_templates())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(bool(result.written) for result in results) == [False, False, False, True]
    found = {str(path.relative_to(tmp_path / "g")) for path in (tmp_path / "g").rglob("*") if path.is_file()}
    assert found == {*files, "ledger.jsonl"}
