"""Several processes: workers of one reading, and readings that share an index."""

import json
import marshal
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runplan.priors import processes
from runplan.priors.files import LogFile
from runplan.priors.processes import in_processes, read_logs

ROOT = Path(__file__).parents[1]
BAR = "\r1|{i}|Loss: 1.25: {p:3d}%|####      | {i}/{steps} [{s:02d}:{r:02d}<00:10,  0.50it/s]"
PROGRAM = "import sys; from runplan.priors.command import main; sys.exit(main())"
LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)); " + PROGRAM


def tune_log(batch, steps=99):
    bars = "".join(
        BAR.format(i=i, p=100 * i // steps, steps=steps, s=2 * i // 60, r=2 * i % 60) for i in range(1, steps + 1)
    )
    head = f"Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\nbatch_size: {batch}\nepochs: 1\n\n"
    return f"{head}{bars}Starting checkpoint save...\nCheckpoint saved in 2.00 seconds.\n"


def started(program, folder, *options):
    env = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), "PATH": "", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(folder / "logs"), "--json", *options]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def read(process):
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    return json.loads(out)


@pytest.fixture
def logs(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_CHUNK", 3)
    monkeypatch.setattr(processes, "_PARALLEL_FROM", 4)
    return [LogFile(str(tmp_path / f"slurm-{i}.out"), 10 + i, 0) for i in range(20)]


@pytest.mark.parametrize("workers", [1, 2, 4, 30])
def test_the_order_is_that_of_the_logs(logs, workers):
    said = [{"name": log.name, "sizes": (log.size, 0.5, None, True), "more": ["\udce9\n"]} for log in logs]
    by_name = {one["name"]: one for one in said}
    assert in_processes(lambda log: by_name[log.name], logs, workers) == said
    assert in_processes(lambda log: {"name": log.name}, [], workers) == []


def test_what_a_killed_worker_leaves_is_done_by_the_parent(logs):
    parent = os.getpid()

    def do(log):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"name": log.name}

    assert in_processes(do, logs, 3) == [{"name": log.name} for log in logs]


def test_what_a_worker_did_not_write_whole_is_done_by_the_parent(logs, monkeypatch):
    parent = os.getpid()
    whole = marshal.dumps

    def cut(turn, file):
        file.write(whole(turn)[:-3])

    monkeypatch.setattr(marshal, "dump", cut)
    asked = []
    monkeypatch.setattr(processes, "_turns", slow_parent(processes._turns, parent))
    assert in_processes(lambda log: asked.append(log) or {"name": log.name}, logs, 2) == [
        {"name": log.name} for log in logs
    ]
    assert len(asked) == len(logs)


def slow_parent(turns, parent):
    """The parent waits until its workers had their turns."""

    def waiting(do, chunks, tickets):
        if os.getpid() == parent:
            time.sleep(0.1)
        yield from turns(do, chunks, tickets)

    return waiting


def test_a_worker_that_raises_hides_nothing(logs):
    def do(log):
        raise LookupError(log.name)

    with pytest.raises(LookupError):
        in_processes(do, logs, 2)


def test_logs_that_cannot_be_read_say_nothing(logs):
    assert read_logs(logs) == [None] * 20


def test_readings_at_once_by_several_processes_agree_and_leave_a_whole_index(tmp_path):
    (tmp_path / "logs").mkdir()
    for i in range(40):
        (tmp_path / "logs" / f"slurm-{i:02d}.out").write_text(tune_log(batch=i))
    readers = [started(PROGRAM, tmp_path, *options) for options in ([], ["--refresh"], [], ["--refresh"])]
    records = [read(reader) for reader in readers]
    assert records == [records[0]] * 4
    assert [record["batch_size"] for record in records[0]] == list(range(40))
    (index,) = (tmp_path / "cache" / "runplan" / "priors").iterdir()
    assert len(json.loads(index.read_bytes())["logs"]) == 40
    assert read(started(PROGRAM, tmp_path)) == records[0]


def test_a_log_of_gigabytes_needs_little_memory(tmp_path):
    """Five GiB, most of them a hole: its ends and some pieces are read under a limit of 600 MiB."""
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "slurm-1.out"
    text = tune_log(batch=4).encode()
    middle = text.index(b"\r1|50|")
    with path.open("wb") as file:
        file.write(text[:middle])
        file.seek(5 << 30)
        file.write(text[middle:])
    (record,) = read(started(LIMITED, tmp_path))
    assert (record["batch_size"], record["steps_done"], record["state"]) == (4, 99, "completed")
    assert record["s_per_step"] == pytest.approx(2.0, rel=0.02)
