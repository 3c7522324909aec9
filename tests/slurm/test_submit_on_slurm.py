"""`runplan submit` on a SLURM that really runs what it is given: exactly once, whatever is killed, stopped or full."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
import real_groups
from job_plans import fake_program
from real_groups import ledger

from runplan.files.written import read_group
from runplan.jobs.observe import JobState
from runplan.submit import command
from runplan.submit.snapshot import look_and_settle

pytestmark = pytest.mark.slurm

TESTS = Path(__file__).parents[1]
LIMIT_S = 60
SAVE = (
    "mkdir -p artifacts/recipe_state artifacts/epoch_{0}; echo '{{}}' >artifacts/epoch_{0}/config.json; "
    "cp ../../things/state.pt artifacts/recipe_state/recipe_state.pt; "
    "cp ../../things/state.pt artifacts/epoch_{0}/adapter_model.pt"
)
NO_SACCT = 'echo "Slurm accounting storage is disabled" >&2; exit 1'


@pytest.fixture(scope="module")
def outlasting(tmp_path_factory):
    """A training that is over its minute by the time the other tests are done; and where it is."""
    place = tmp_path_factory.mktemp("long")
    group = real_groups.group(place / "g", token(), 1, 2, base=False, time_s=60)
    path = f"{real_groups.programs(place / 'bin')}:{os.environ['PATH']}"
    log = "1|5|Loss: 6.0: 100%|#| 5/5 [00:05<00:00, 1.0s/it]"
    done = runplan(group, env={"PATH": path, "TUNE": f"echo 'torchtune {log}'; {SAVE.format(0)}; sleep 600"})
    assert done.returncode == 0, done.stderr
    yield group
    cancel(group)


@pytest.fixture(autouse=True)
def programs(outlasting, tmp_path, monkeypatch):
    folder = real_groups.programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


@pytest.fixture
def make(tmp_path):
    """Makes groups; what is left of their jobs is cancelled."""
    made = []

    def group(*args, name: str = "a group", **more) -> Path:
        made.append(real_groups.group(tmp_path / name, token(), *args, **more))
        return made[-1]

    yield group
    for each in made:
        cancel(each)


def token() -> str:
    """Like no other: SLURM remembers the jobs of earlier tests."""
    return uuid.uuid4().hex[:12]


def cancel(group: Path) -> None:
    if (group / "ledger.jsonl").exists():
        jobs = {line["job_id"].partition("_")[0] for line in ledger(group) if line["job_id"]}
        subprocess.run(["scancel", *jobs], check=False, capture_output=True)


def runplan(group: Path, *words: str, env: dict[str, str] | None = None, **more) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "runplan", "submit", str(group), *words]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *sys.path]), **(env or {})}
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, cwd="/", env=found, **more)


def states(group: Path) -> dict[str, JobState]:
    read = read_group(group)
    seen = look_and_settle(read, logs=True).states
    return {job.name: seen[job.token].state for job in read.jobs}


def until(group: Path, *over: JobState) -> dict[str, JobState]:
    """States once nothing waits or runs any more, and every ending is one of those named."""
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = states(group)
        if {*found.values()} <= {*over}:
            return found
        time.sleep(0.3)
    pytest.fail(f"after {LIMIT_S} s: {states(group)}")


def jobs_in_slurm(group: Path) -> dict[str, list[str]]:
    """Token → jobs with its comment."""
    tokens = {line["token"] for line in ledger(group)}
    listed = subprocess.run(
        ["squeue", "-h", "-r", "-t", "all", "-o", "%i|%k"], capture_output=True, text=True, check=True
    )
    found: dict[str, list[str]] = {}
    for line in listed.stdout.splitlines():
        job, _, comment = line.partition("|runplan:")
        if comment in tokens:
            found.setdefault(comment, []).append(job)
    return found


@pytest.mark.parametrize(
    ("words", "accounting"),
    [
        ("sbatch 1 1 1 --hold", True),
        ("sbatch 1 1 0", False),
        ("submitit 1 2 1 --hold", True),
        ("sbatch 2 1 0 --hold", True),
    ],
    ids=["sbatch", "no-accounting-and-jobs-that-end-at-once", "submitit", "another-attempt"],
)
def test_killed_at_every_step_every_job_is_submitted_once(words, accounting, tmp_path, programs):
    if not accounting:
        fake_program(programs, "sacct", NO_SACCT)
    line = [sys.executable, str(TESTS / "killed_submit.py"), str(tmp_path / "k"), *words.split()]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=300, env=env)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == []
    assert found["kills"] >= 28


@pytest.mark.parametrize("via", ["sbatch", "submitit"])
def test_who_begins_while_a_killed_one_s_sbatch_still_talks_waits_for_it(via, make, tmp_path, programs):
    group = make(1, 0, base=False)
    real = shutil.which("sbatch")
    fake_program(
        programs,
        "sbatch",
        f'[ -e "{tmp_path}/x" ] || {{ touch "{tmp_path}/x"; kill -9 $PPID; sleep 1; }}; exec {real} "$@"',
    )
    assert runplan(group, "--via", via).returncode == -signal.SIGKILL
    assert [line["event"] for line in ledger(group)] == ["intent"]
    done = runplan(group, "--via", via)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 submitted, 1 already submitted" in done.stdout
    assert [len(jobs) for jobs in jobs_in_slurm(group).values()] == [1]


def test_two_at_once_submit_every_job_once(make):
    group = make(4, 1)
    found: list[subprocess.CompletedProcess[str]] = []
    threads = [threading.Thread(target=lambda: found.append(runplan(group))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [done.returncode for done in found] == [0, 0], found
    assert [len(jobs) for jobs in jobs_in_slurm(group).values()] == [1] * 9


def test_a_controller_that_is_stopped_in_the_middle_costs_time_and_nothing_else(make, programs, tmp_path):
    pid_file = Path(os.environ["SLURM_CONF"]).parents[1] / "run" / "slurmctld.pid"
    if not pid_file.is_file():
        pytest.skip("needs a SLURM of its own: .ci/slurm.sh")
    group = make(3, 1, extra=("--hold",))
    real = shutil.which("sbatch")
    pid = pid_file.read_text().strip()
    stop = f'[ "$(wc -l <"{tmp_path}/n")" != 3 ] || {{ kill {pid}; sleep 0.5; touch "{tmp_path}/down"; }}'
    fake_program(programs, "sbatch", f'echo >>"{tmp_path}/n"; {stop}; exec {real} "$@"')

    def start_again() -> None:
        while not (tmp_path / "down").exists():
            time.sleep(0.1)
        time.sleep(1)
        subprocess.run(["slurmctld"], check=True)

    thread = threading.Thread(target=start_again)
    thread.start()
    done = runplan(group)
    thread.join()
    assert done.returncode == 0, done.stdout + done.stderr
    assert [len(jobs) for jobs in jobs_in_slurm(group).values()] == [1] * 7


def test_a_job_that_only_accounting_knows_is_found(make, programs):
    group = make(1, 0, base=False)
    assert runplan(group).returncode == 0
    until(group, JobState.completed)
    (job,) = [line["job_id"] for line in ledger(group) if line["job_id"]]
    (group / "r0" / "jobs.jsonl").unlink()
    (group / "ledger.jsonl").write_text((group / "ledger.jsonl").read_text().splitlines()[0] + "\n")
    fake_program(programs, "squeue", f'exec {shutil.which("squeue")} "${{@/all/PENDING}}"')
    done = runplan(group)
    assert done.returncode == 0, done.stderr
    assert "0 submitted, 1 already submitted" in done.stdout
    assert ledger(group)[-1]["job_id"] == job


def test_arrays_and_their_evaluations_fail_each_by_itself(make, monkeypatch):
    monkeypatch.setenv("TUNE", "case $PWD in *r1) exit 3 ;; esac; echo trained; sleep 1")
    group = make(3, 1, name="a'; echo x")
    done = runplan(group, "--via", "submitit", "--json")
    assert done.returncode == 0, done.stderr
    made = {each["job"]: each["job_id"] for each in json.loads(done.stdout)["submitted"]}
    assert {job.partition("_")[2] for name, job in made.items() if name in {"r0", "r1", "r2"}} == {"0", "1", "2"}
    ended = (JobState.completed, JobState.failed, JobState.cancelled)
    found = until(group, *ended)
    assert [found["r1"], found["r1/eval/cap_epoch0"]] == [JobState.failed, JobState.cancelled]
    assert [state for name, state in found.items() if not name.startswith("r1")] == [JobState.completed] * 5
    (log,) = (group / "r0").glob("slurm-*.out")
    assert log.read_text() == "trained\n"
    assert list((group / ".submitit").glob("slurm-*.out")) == []
    monkeypatch.setenv("TUNE", "exit 0")
    again = runplan(group, "--only", "failed")
    assert "2 submitted, 5 already submitted, 0 not submitted" in again.stdout
    assert {*until(group, JobState.completed).values()} == {JobState.completed}


def test_what_is_cancelled_is_submitted_again_with_what_waited_for_it(make, monkeypatch):
    monkeypatch.setenv("TUNE", "sleep 600")
    group = make(2, 2, base=False)
    assert runplan(group).returncode == 0
    jobs = {line["path"]: line["job_id"] for line in ledger(group) if line["job_id"]}
    subprocess.run(["scancel", jobs["r0/finetune.slurm"]], check=True)
    monkeypatch.setenv("TUNE", "mkdir -p artifacts/epoch_1")
    deadline = time.monotonic() + LIMIT_S
    while states(group)["r0"] is not JobState.cancelled and time.monotonic() < deadline:
        time.sleep(0.2)
    again = runplan(group, "--only", "cancelled")
    assert "3 submitted, 3 already submitted, 0 not submitted" in again.stdout, again.stdout + again.stderr
    subprocess.run(["scancel", jobs["r1/finetune.slurm"]], check=True)
    found = until(group, JobState.completed, JobState.cancelled)
    assert [state for name, state in found.items() if name.startswith("r0")] == [JobState.completed] * 3
    assert [state for name, state in found.items() if name.startswith("r1")] == [JobState.cancelled] * 3


def test_a_lost_node_and_its_evaluations(make, monkeypatch):
    monkeypatch.setenv("TUNE", "sleep 600")
    group = make(1, 1, base=False, extra=("--no-requeue", "--nodelist=n4"))
    assert runplan(group).returncode == 0
    deadline = time.monotonic() + LIMIT_S
    while states(group)["r0"] is not JobState.running and time.monotonic() < deadline:
        time.sleep(0.2)
    subprocess.run(["scontrol", "update", "nodename=n4", "state=down", "reason=test"], check=True)
    try:
        found = until(group, JobState.node_fail, JobState.cancelled)
    finally:
        subprocess.run(["scontrol", "update", "nodename=n4", "state=resume"], check=False)  # or it is back
    assert found == {"r0": JobState.node_fail, "r0/eval/cap_epoch0": JobState.cancelled}
    monkeypatch.setenv("TUNE", "exit 0")
    again = runplan(group, "--only", "node_fail")
    assert "2 submitted, 0 already submitted, 0 not submitted" in again.stdout
    until(group, JobState.completed)


def test_what_the_queue_does_not_take_follows_as_jobs_end(make, monkeypatch, capsys):
    account = f"capped{uuid.uuid4().hex[:6]}"
    for words in (
        ["add", "account", account], ["add", "user", getuser(), f"account={account}"],
        ["modify", "user", "where", f"name={getuser()}", f"account={account}", "set", "maxsubmitjobs=3"],
    ):  # fmt: skip
        subprocess.run(["sacctmgr", "-i", "-Q", *words], check=True, capture_output=True)
    group = make(2, 1, account=account, name="sbatch")
    first = runplan(group)
    assert first.returncode == 0, first.stderr
    assert "3 submitted, 0 already submitted, 0 not submitted" in first.stdout
    assert "2 wait for room in the queue (AssocMaxSubmitJobLimit)" in first.stdout
    monkeypatch.setattr(command, "ROUND_S", 0.5)
    assert command.main([str(group), "--wait"]) == 0
    assert {*until(group, JobState.completed).values()} == {JobState.completed}
    assert [len(jobs) for jobs in jobs_in_slurm(group).values()] == [1] * 5
    arrays = make(4, 0, account=account, name="arrays")
    assert "3 submitted" in runplan(arrays, "--via", "submitit").stdout
    assert command.main([str(arrays), "--via", "submitit", "--wait"]) == 0
    until(arrays, JobState.completed)


def getuser() -> str:
    return subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()


def test_every_request_can_be_asked_about_first(make):
    good = make(2, 1, name="good")
    done = runplan(good, "--test-only")
    assert (done.returncode, done.stdout.count("taken: Job ")) == (0, 1), done.stdout
    bad = make(1, 1, name="bad", partition="no-such")
    done = runplan(bad, "--test-only")
    assert done.returncode == 1
    assert "refused: " in done.stdout
    assert "Invalid partition name specified" in done.stdout
    assert not (bad / "ledger.jsonl").read_text()


def test_a_wrong_partition_is_refused_and_may_be_planned_anew(make):
    group = make(4, 1, partition="no-such", base=False)
    done = runplan(group)
    assert done.returncode == 1
    assert "three refusals in a row" in done.stderr
    assert "0 submitted" in done.stdout
    assert [line["event"] for line in ledger(group)] == ["intent", "refused"] * 3


def test_what_ran_into_its_limit_gets_the_time_that_it_needs(outlasting):
    deadline = time.monotonic() + 2 * LIMIT_S
    while states(outlasting)["r0"] is not JobState.timeout and time.monotonic() < deadline:
        time.sleep(0.5)
    done = runplan(outlasting, "--only", "timeout", "--json", env={"TUNE": SAVE.format(1)})
    assert done.returncode == 0, done.stderr
    training, *evaluations = json.loads(done.stdout)["submitted"]
    assert training["options"] == ["--time=00:05:00"]
    assert "5 of 10 steps in " in training["note"]
    assert "epochs saved: 1" in training["note"]
    assert [each["options"] for each in evaluations] == [[], []]
    shown = subprocess.run(["scontrol", "show", "job", training["job_id"]], capture_output=True, text=True, check=True)
    assert "TimeLimit=00:05:00" in shown.stdout
    assert {*until(outlasting, JobState.completed).values()} == {JobState.completed}
    lines = map(json.loads, (outlasting / "r0" / "jobs.jsonl").read_text().splitlines())
    assert [each["resumed_epoch"] for each in lines if each["event"] == "attempt"] == [None, 0]
