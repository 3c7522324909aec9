"""A group run on this machine, by its own scripts and with a trainer that only pretends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pexpect
import pytest
from job_plans import cell, control, fake_program, plan, request, run, write

from runplan.errors import SubmitError
from runplan.files.document import document_text, plan_document
from runplan.files.written import read_group
from runplan.jobs.attempts import Attempt
from runplan.jobs.ledger import append, read_ledger, read_records
from runplan.jobs.processes import is_alive
from runplan.submit import local
from runplan.submit.deciding import decide
from runplan.submit.gpu_locks import busy_gpus, release, take_gpus
from runplan.submit.lanes import Machine
from runplan.submit.local import run_jobs
from runplan.submit.machine import read_machine
from runplan.submit.snapshot import look_and_settle

TUNE = """
echo "$CUDA_VISIBLE_DEVICES" >gpus
date +%s.%N >began
sleep "${TUNE_SLEEPS:-0}"
date +%s.%N >over
[ ! -e fail ] || exit 3
mkdir -p artifacts/epoch_0
echo '{}' >artifacts/epoch_0/config.json
"""
INSPECT = """
log=$(printf '%s\\n' "$@" | grep -A1 -x -- --log-dir | tail -n 1)
echo '{"status": "success", "results": {"scores": []}}' >"$log/one.json"
"""
MACHINE = Machine((), 2, 8.0)
DRIVER = """
import sys
from pathlib import Path
from runplan.submit.lanes import Machine
from runplan.submit.local import run_jobs
from runplan.files.written import read_group
group = read_group(Path(sys.argv[1]))
outcome = run_jobs(group, group.jobs, Machine((), 4, 8.0), lambda line: print(line, flush=True), 0.02)
print(outcome, flush=True)
"""


@pytest.fixture(autouse=True)
def programs(tmp_path, monkeypatch):
    fake_program(tmp_path / "bin", "tune", TUNE)
    fake_program(tmp_path / "bin", "inspect", INSPECT)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{Path(sys.executable).parent}:/usr/bin:/bin")


def make(tmp_path, *runs):
    made = plan(*runs, directory=str(tmp_path / "a'; echo x"))
    group = write(made)
    (group / "plan.json").write_text(document_text(plan_document(made)))
    return read_group(group)


def two_runs_and_a_control(tmp_path, **more):
    model = tmp_path / "Tiny"
    model.mkdir()
    base = control()
    base = replace(base, model=replace(base.model, path=str(model)))
    return make(tmp_path, run("r4", cells=(cell(),), **more), run("r8", token="tok2", cells=(cell(),), **more), base)


def go(group, machine=MACHINE, said=None):
    return run_jobs(group, group.jobs, machine, (said if said is not None else []).append, 0.02)


def test_a_group_runs_to_its_end_and_the_ledger_knows_every_job_once(tmp_path):
    group = two_runs_and_a_control(tmp_path)
    outcome = go(group)
    assert len(outcome.completed) == len(group.jobs) == 5
    assert (outcome.failed, outcome.skipped, outcome.interrupted) == ((), (), False)
    ledger = read_ledger(group.directory)
    for job in group.jobs:
        (attempt,) = ledger.of(job.token)
        events = [(record.event, record.job_id) for record in read_records(job.directory)]
        expected = ["started", "attempt", "ended"] if job.kind == "train" else ["started", "ended"]
        assert events == [(event, attempt.job_id) for event in expected]
        assert (job.directory / f"slurm-{attempt.job_id}.out").exists()


def test_the_cells_of_a_failed_training_are_not_run_and_the_rest_is(tmp_path):
    group = two_runs_and_a_control(tmp_path)
    (group.directory / "r4" / "fail").touch()
    said = []
    outcome = go(group, said=said)
    assert outcome.failed == ("r4",)
    assert outcome.skipped == ("r4/eval/cap_epoch0",)
    assert len(outcome.completed) == 3
    assert any("exit code 3" in line and "slurm-local-" in line for line in said)


def test_gpus_are_never_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "0.3")
    runs = [run(f"r{n}", token=f"tok{n}", request=request(gpus=1)) for n in range(4)]
    group = make(tmp_path, *runs)
    go(group, Machine(("GPU-a", "GPU-b"), 8, 8.0))
    spans = spans_by_gpu(group)
    assert set(spans) == {"GPU-a", "GPU-b"}
    for held in spans.values():
        assert all(first[1] <= second[0] for first, second in pairwise(held))


def test_a_gpu_that_another_group_uses_is_waited_for(tmp_path):
    group = make(tmp_path, run("r4", request=request(gpus=1)))
    locks, said = take_gpus(["GPU-a"], "/else/where"), []
    assert take_gpus(["GPU-b", "GPU-a"], "/third") is None
    assert busy_gpus(["GPU-a", "GPU-b"]) == {"GPU-a": "/else/where"}

    def tick():
        if len(said) == 1 and locks:
            release([locks.pop()])

    outcome = run_jobs(group, group.jobs, Machine(("GPU-a",), 8, 8.0), said.append, 0.02, tick)
    assert outcome.completed == ("r4",)
    assert said[0] == "r4  waiting for GPU GPU-a (used by /else/where)"
    assert said[1].startswith("r4  started on GPU GPU-a")


def test_a_job_holds_its_gpu_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "0.3")
    group, seen = make(tmp_path, run("r4", request=request(gpus=1))), []
    machine = Machine(("GPU-a", "GPU-b"), 8, 8.0)
    run_jobs(group, group.jobs, machine, lambda _: None, 0.02, lambda: seen.append(busy_gpus(machine.gpus)))
    assert {"GPU-a": str(group.directory)} in seen
    assert busy_gpus(machine.gpus) == {}


def test_where_files_cannot_be_locked_gpus_are_taken_to_be_free(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert take_gpus(["0"], "g") == []
    assert busy_gpus(["0"]) == {}


def test_what_this_machine_can_never_run_is_said_before_anything_starts(tmp_path):
    group = make(tmp_path, run(), run("big", token="tok2", request=request(gpus=2)))
    with pytest.raises(SubmitError, match="big: asks for 2 GPUs, this machine has no GPU"):
        go(group)
    assert not (group.directory / "ledger.jsonl").exists()


def start_driver(group):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(group.directory)], stdout=subprocess.PIPE, text=True, env=os.environ
    )


def wait_for(condition, what):
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_an_interrupt_stops_the_jobs_and_the_next_call_runs_them_again(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "60")
    group = make(tmp_path, run())
    driver = start_driver(group)
    wait_for((group.directory / "1B_rank4" / "began").exists, "the training never began")
    driver.send_signal(signal.SIGINT)
    said, _ = driver.communicate(timeout=30)
    assert "interrupted=True" in said
    (attempt,) = read_ledger(group.directory).of("tok1")
    folder = group.jobs[0].directory
    records = read_records(folder)
    assert is_alive(attempt.job_id, (), records, folder) is False
    assert [record.event for record in records] == ["started", "attempt", "ended"]
    monkeypatch.setenv("TUNE_SLEEPS", "0")
    assert go(group).completed == ("1B_rank4",)


@pytest.fixture
def command(tmp_path):
    """A group that the verb takes, and the verb's process."""
    things = tmp_path / "things"
    things.mkdir()
    for name in ("config.json", "words.json", "inspect.py"):
        (things / name).write_text("{}")
    made = run(cells=(replace(cell(), script=str(things / "inspect.py")),))
    made = replace(
        made,
        model=replace(made.model, path=str(things)),
        dataset=replace(made.dataset, path=str(things / "words.json")),
    )
    group = make(tmp_path, made)
    return group, [sys.executable, "-m", "runplan", "submit", str(group.directory), "--via", "local"]


def test_after_ctrl_c_the_same_command_goes_on(command, monkeypatch):
    group, words = command
    monkeypatch.setenv("TUNE_SLEEPS", "60")
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ)
    wait_for((group.directory / "1B_rank4" / "began").exists, "the training never began")
    first.send_signal(signal.SIGINT)
    said, _ = first.communicate(timeout=30)
    assert first.returncode == 130, said
    monkeypatch.setenv("TUNE_SLEEPS", "0")
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1B_rank4/eval/cap_epoch0  completed" in done.stdout
    assert len(read_ledger(group.directory).of("tok1")) == 2


def test_a_terminal_shows_the_group_while_it_runs(command, monkeypatch):
    _, words = command
    monkeypatch.setenv("TUNE_SLEEPS", "5")
    monkeypatch.setenv("TERM", "xterm")  # whatever the tests run in; one that cannot move its cursor is shown lines
    child = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=30, dimensions=(40, 120), env=os.environ)
    child.expect("1B_rank4  started")
    child.expect("1 running")
    child.expect("1B_rank4  completed")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_killed_call_leaves_its_jobs_running_and_the_next_one_waits_for_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "1.5")
    group = make(tmp_path, run(cells=(cell(),)))
    driver = start_driver(group)
    wait_for((group.directory / "1B_rank4" / "began").exists, "the training never began")
    driver.kill()
    driver.communicate()
    said = []
    outcome = go(group, said=said)
    assert outcome.completed == ("1B_rank4", "1B_rank4/eval/cap_epoch0")
    assert "runs already, as local-" in said[0]
    assert len(read_ledger(group.directory).of("tok1")) == 1


def test_after_kill_9_the_same_command_goes_on_with_what_runs(command, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "1.5")
    group, argv = command
    first = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for((group.directory / "1B_rank4" / "began").exists, "the training never began")
    first.kill()
    first.communicate()
    second = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "1B_rank4  runs already, as local-" in second.stdout
    assert "1B_rank4/eval/cap_epoch0  completed" in second.stdout


def spans_by_gpu(group):
    spans = {}
    for job in group.jobs:
        gpu = (job.directory / "gpus").read_text().strip()
        began, over = (float((job.directory / name).read_text()) for name in ("began", "over"))
        spans.setdefault(gpu, []).append((began, over))
    return {gpu: sorted(held) for gpu, held in spans.items()}


def test_calls_at_once_never_share_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "0.4")
    runs = [run(f"r{n}", token=f"tok{n}", request=request(gpus=1)) for n in range(6)]
    group = make(tmp_path, *runs)
    machine = "Machine(('GPU-a', 'GPU-b'), 8, 8.0)"
    code = DRIVER.replace("Machine((), 4, 8.0)", machine)
    drivers = [subprocess.Popen([sys.executable, "-c", code, str(group.directory)]) for _ in range(2)]
    assert [driver.wait(60) for driver in drivers] == [0, 0]
    spans = spans_by_gpu(group)
    assert set(spans) == {"GPU-a", "GPU-b"}
    for held in spans.values():
        assert all(first[1] <= second[0] for first, second in pairwise(held))


def test_what_another_call_finished_meanwhile_is_not_run_again(tmp_path):
    group = make(tmp_path, run("r4"), run("r8", token="tok2"))
    said = []

    def say(line):
        said.append(line)
        if line.startswith("r4  completed"):
            assert run_jobs(group, group.jobs[1:], MACHINE, lambda _line: None, 0.02).completed == ("r8",)

    one_at_a_time = Machine((), 1, 8.0)
    outcome = run_jobs(group, group.jobs, one_at_a_time, say, 0.02)
    assert outcome.completed == ("r4", "r8")
    assert said[-1] == "r8  completed by another call"
    assert len(read_ledger(group.directory).of("tok2")) == 1


def test_what_runs_on_another_machine_is_left_alone(tmp_path):
    group = make(tmp_path, run(cells=(cell(),)))
    job, event = group.jobs[0], {"token": "tok1", "path": group.jobs[0].path, "via": "local"}
    said = []

    def say(line):
        said.append(line)

    started = {"event": "started", "token": "tok1", "kind": "train", "cell": None, "job_id": "local-1", "host": "other"}

    def elsewhere(*_):
        append(group.directory, [{"event": "intent", "job_id": None, **event}])
        append(group.directory, [{"event": "submitted", "job_id": "local-1", **event}])
        (job.directory / "jobs.jsonl").write_text(json.dumps(started | {"time": "2026-01-31T12:00:00Z"}) + "\n")

    elsewhere()
    again = observe_by_command(group)
    assert again.left[0].reason == "its training (local-1) is under way elsewhere; submit again when it is done"
    (group.directory / "ledger.jsonl").unlink()
    (job.directory / "jobs.jsonl").unlink()
    lane_lock = local.group_lock

    @contextmanager
    def late(directory):
        with lane_lock(directory) as lock:
            if not (group.directory / "ledger.jsonl").read_text():
                elsewhere()
            yield lock

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "group_lock", late)
        outcome = run_jobs(group, group.jobs, MACHINE, say, 0.02)
    assert outcome.skipped == ("1B_rank4", "1B_rank4/eval/cap_epoch0")
    assert said[0] == "1B_rank4  not run: it is under way elsewhere, as local-1; submit again when it is done"


def observe_by_command(group):
    with local.group_lock(group.directory):
        return decide(group, look_and_settle(group, logs=False), frozenset(), via="local")


def test_two_calls_at_once_run_every_job_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TUNE_SLEEPS", "0.3")
    group = make(tmp_path, *(run(f"r{n}", token=f"tok{n}") for n in range(4)))
    drivers = [start_driver(group) for _ in range(2)]
    for driver in drivers:
        driver.communicate(timeout=60)
        assert driver.returncode == 0
    for job in group.jobs:
        assert [record.event for record in read_records(job.directory)] == ["started", "attempt", "ended"]


def test_a_deleted_run_is_said(tmp_path):
    group = make(tmp_path, run())
    shutil.rmtree(group.directory / "1B_rank4")
    with pytest.raises(SubmitError, match="cannot be started"):
        go(group)


def test_this_machine_is_read(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    machine = read_machine()
    assert machine.gpus == ("3", "GPU-5")
    assert machine.cpus >= 1
    assert machine.memory_gib > 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert read_machine().gpus == ()


def test_processes_are_told_apart(tmp_path):
    here, there = (Attempt("t", "", "local-999999999", "local", host=host) for host in (os.uname().nodename, "other"))
    mine = replace(here, job_id=f"local-{os.getpid()}")

    def alive(attempt, folder=tmp_path):
        return is_alive(attempt.job_id, (attempt,), (), folder)

    assert is_alive("123", (), (), tmp_path) is None
    assert (alive(mine), alive(mine, Path.cwd())) == (False, True)  # a process, but no job's: it stands elsewhere
    assert (alive(here), alive(there), alive(replace(here, host=""))) == (False, None, None)
    assert alive(replace(here, job_id="local-x")) is False
