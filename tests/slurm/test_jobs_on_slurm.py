"""The scripts on a SLURM that really runs them: exit codes, logs, names, and each job submitted once."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
import time
import uuid
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from job_plans import cell, config, control, fake_program, plan, request, run, write

from runplan.paths import RECIPES_DIR
from runplan.slurm.commands import read_cluster, would_take

pytestmark = pytest.mark.slurm

LIMIT_S = 40
"""A job waits some seconds for the scheduler; more than this is a failure."""
HOSTILE = ["a'; echo x", "new\nline", "50% $(id)", 'ünï \\ #"=,']


@pytest.fixture
def group_dir(tmp_path):
    """A place that compute nodes see, too; in the real /tmp of this machine."""
    return tmp_path / "the group"


@pytest.fixture
def token():
    """Like no other: SLURM remembers the jobs of earlier runs of these tests."""
    return uuid.uuid4().hex[:12]


@pytest.fixture(autouse=True)
def programs(tmp_path, token, monkeypatch):
    """Trainer and evaluation that only pretend, on the PATH that sbatch hands on; jobs that are left are cancelled."""
    folder = tmp_path / "programs"
    fake_program(folder, "tune", 'echo "trained in $PWD"; exec bash -c "${TUNE:-exit 0}"')
    log = '{"status": "success", "results": {"scores": []}}'
    fake_program(folder, "inspect", f"echo evaluated; echo '{log}' >logs/1.json")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    yield folder
    comments = output("squeue", "-h", "-o", "%i|%k").splitlines()
    left = [line.split("|")[0] for line in comments if line.split("|")[1].startswith(f"runplan:{token}")]
    if left:
        subprocess.run(["scancel", *left], check=False)


def output(*command: str, **more) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, **more).stdout.strip()


def small(made):
    """The same run with requests that the smallest of nodes can meet at once, and side by side."""
    cells = tuple(replace(each, request=tiny(each.request)) for each in made.cells)
    return replace(made, cells=cells, request=tiny(made.request) if made.request else None)


def tiny(made):
    return replace(made, time_s=300, mem_gib=1, cpus_per_task=1, gpus=0)


def states(*jobs: str) -> dict[str, str]:
    """State and exit code of each job, from the controller, which remembers them for minutes."""
    found = {}
    for job in jobs:
        fields = dict(
            word.split("=", 1) for word in output("scontrol", "-o", "show", "job", job).split() if "=" in word
        )
        found[job] = f"{fields['JobState']} {fields['ExitCode']}"
    return found


def finished(*jobs: str) -> dict[str, str]:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        found = states(*jobs)
        if not any(state.split()[0] in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"} for state in found.values()):
            return found
        time.sleep(0.2)
    pytest.fail(f"not finished after {LIMIT_S} s: {found}")


def records(directory: Path) -> list[dict]:
    return [json.loads(line) for line in (directory / "jobs.jsonl").read_text().splitlines()]


def submit(group: Path, **more) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(group / "submit_all.sh")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd="/", **more)


def ledger(group: Path) -> list[dict]:
    return [json.loads(line) for line in (group / "ledger.jsonl").read_text().splitlines()]


def jobs_of(group: Path) -> dict[str, str]:
    return {line["path"]: line["job_id"] for line in ledger(group) if line["event"] == "submitted"}


def ready(made, tmp_path, group_dir) -> Path:
    """The group on disk, with the model, data and task it needs."""
    things = tmp_path / "things"
    things.mkdir()
    for name in ("config.json", "words.json", "inspect.py"):
        (things / name).write_text("{}")
    runs = tuple(
        replace(
            small(each),
            model=replace(each.model, path=str(things)),
            dataset=replace(each.dataset, path=str(things / "words.json")),
            cells=tuple(replace(one, script=str(things / "inspect.py")) for one in small(each).cells),
        )
        for each in made
    )
    return write(plan(*runs, directory=str(group_dir)))


@pytest.mark.parametrize("name", HOSTILE)
def test_finetune_slurm_runs_alone_from_its_directory(name, tmp_path, group_dir, token):
    group = write(plan(small(run(name, token=token)), directory=str(group_dir)))
    job = output("sbatch", "--parsable", "finetune.slurm", cwd=group / name)
    assert finished(job) == {job: "COMPLETED 0:0"}
    assert (group / name / f"slurm-{job}.out").read_text() == f"trained in {group / name}\n"
    events = [(line["event"], line["job_id"]) for line in records(group / name)]
    assert events == [("started", job), ("attempt", job), ("ended", job)]
    left = {path.name for path in (group / name).iterdir()}
    assert left == {"finetune.slurm", "jobs.jsonl", "logs", "artifacts", f"slurm-{job}.out"}


def test_exit_codes_come_back(tmp_path, group_dir, monkeypatch, token):
    group = write(plan(small(run(token=token)), directory=str(group_dir)))
    for how, expected in {"exit 3": "FAILED 3:0", "kill -9 $$": "FAILED 137:0"}.items():
        monkeypatch.setenv("TUNE", how)
        job = output("sbatch", "--parsable", "finetune.slurm", cwd=group / "1B_rank4")
        assert finished(job) == {job: expected}  # one after the other: a directory takes one training at a time
    ended = {line["job_id"]: line["exit_code"] for line in records(group / "1B_rank4") if line["event"] == "ended"}
    assert sorted(ended.values()) == [3, 137]


def test_a_job_finds_its_directory_and_its_log_from_elsewhere_and_after_a_move(tmp_path, group_dir, token):
    written = write(plan(small(run("new\nline", token=token)), directory=str(group_dir)))
    group = tmp_path / "moved 'group'"
    shutil.move(written, group)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    job = output("sbatch", "--parsable", str(group / "new\nline" / "finetune.slurm"), cwd=elsewhere)
    assert finished(job) == {job: "COMPLETED 0:0"}
    assert "trained in" in (group / "new\nline" / f"slurm-{job}.out").read_text()
    assert list(elsewhere.iterdir()) == []


def test_a_cancelled_job_ends_with_its_trainer_and_says_so(tmp_path, group_dir, monkeypatch, token):
    monkeypatch.setenv("TUNE", "trap 'echo saved; exit 5' TERM; echo ready; sleep 60 & wait $!")
    group = write(plan(small(run(token=token)), directory=str(group_dir)))
    job = output("sbatch", "--parsable", "finetune.slurm", cwd=group / "1B_rank4")
    log = group / "1B_rank4" / f"slurm-{job}.out"
    deadline = time.monotonic() + LIMIT_S
    while not (log.exists() and "ready" in log.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    output("scancel", "--batch", "--signal=TERM", job)
    assert finished(job) == {job: "FAILED 5:0"}
    assert "saved" in log.read_text()
    assert records(group / "1B_rank4")[-1]["exit_code"] == 5


def test_a_group_is_submitted_once_however_often_it_is_asked(tmp_path, group_dir, monkeypatch, token):
    made = [run("a'; echo x", token=f"{token}a", cells=(cell(),)), run("new\nline", token=f"{token}b")]
    group = ready([*made, control(token=f"{token}c")], tmp_path, group_dir)
    monkeypatch.setenv("TUNE", "mkdir artifacts/epoch_0")
    first = submit(group)
    assert first.returncode == 0, first.stderr
    assert "4 submitted, 0 already submitted, 0 not submitted" in first.stdout
    jobs = jobs_of(group)
    assert set(jobs) == {
        "a'; echo x/finetune.slurm",
        "a'; echo x/eval/cap_epoch0/cell.slurm",
        "new\nline/finetune.slurm",
        "1B_base/eval/cap/cell.slurm",
    }
    again = submit(group)
    assert (again.returncode, jobs_of(group), len(ledger(group))) == (0, jobs, 8)
    assert "0 submitted, 4 already submitted" in again.stdout
    assert set(finished(*jobs.values()).values()) == {"COMPLETED 0:0"}
    training, evaluation = (records(group / "a'; echo x" / path) for path in ("", "eval/cap_epoch0"))
    assert training[-1]["time"] <= evaluation[0]["time"]
    assert (group / "1B_base" / "eval" / "cap" / f"slurm-{jobs['1B_base/eval/cap/cell.slurm']}.out").exists()


def test_cells_of_a_failed_training_never_run(tmp_path, group_dir, monkeypatch, token):
    monkeypatch.setenv("TUNE", "exit 3")
    group = ready([run(token=token, cells=(cell(),))], tmp_path, group_dir)
    assert submit(group).returncode == 0
    jobs = jobs_of(group)
    found = finished(*jobs.values())
    assert found[jobs["1B_rank4/finetune.slurm"]] == "FAILED 3:0"
    assert found[jobs["1B_rank4/eval/cap_epoch0/cell.slurm"]].startswith("CANCELLED")
    assert not (group / "1B_rank4" / "eval" / "cap_epoch0" / "jobs.jsonl").exists()


SAVE = """
if [ -e artifacts/epoch_0 ]; then mkdir artifacts/epoch_1; exit 0; fi
mkdir -p artifacts/epoch_0 artifacts/recipe_state artifacts/epoch_1
cp ../../state.pt artifacts/recipe_state/recipe_state.pt; cp ../../state.pt artifacts/epoch_0/adapter_model.pt
echo saved; sleep 60
"""


def test_a_requeued_job_continues_behind_its_last_whole_epoch(tmp_path, group_dir, monkeypatch, token):
    """As after preemption or a node's failure: the same job id, the same log, killed without a word."""
    settings = config()
    settings.epochs = 2
    group = write(plan(small(run(token=token, config=settings)), directory=str(group_dir)))
    folder = group / "1B_rank4"
    (folder / "resume.py").write_text((RECIPES_DIR / "resume.py").read_text())
    (folder / "finetune.yaml").touch()
    with zipfile.ZipFile(tmp_path / "state.pt", "w") as state:
        state.writestr("state/data.pkl", pickle.dumps({"epochs_run": 1}, protocol=2))
    monkeypatch.setenv("TUNE", SAVE)
    job = output("sbatch", "--parsable", "finetune.slurm", cwd=folder)
    log = folder / f"slurm-{job}.out"
    wait_until(lambda: log.exists() and "saved" in log.read_text())
    output("scontrol", "requeue", job)
    wait_until(lambda: states(job)[job].startswith("PENDING"))
    output("scontrol", "update", f"JobId={job}", "StartTime=now+2")  # else two minutes: credentials expire
    assert finished(job) == {job: "COMPLETED 0:0"}
    made = [(each["reason"], each["resumed_epoch"]) for each in records(folder) if each["event"] == "attempt"]
    assert made == [("start", None), ("resume", 0)]
    assert (folder / "attempts/1/artifacts/epoch_1").is_dir()
    assert log.read_text().count("trained in") == 2


def wait_until(true) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize("ran", [False, True], ids=["pending", "over"])
def test_a_crash_between_sbatch_and_its_record_loses_and_doubles_nothing(ran, tmp_path, group_dir, programs, token):
    group = ready([run(token=token), control(token=f"{token}c")], tmp_path, group_dir)
    real = shutil.which("sbatch")
    hold = "" if ran else "--hold"
    fake_program(programs, "sbatch", f'"{real}" {hold} "$@" && kill -9 "$(ps -o sid= $$ | tr -d " ")"')
    assert submit(group, start_new_session=True).returncode == -9
    assert [line["event"] for line in ledger(group)] == ["intent"]
    listed = output("squeue", "-h", "-t", "all", "-o", "%i|%k").splitlines()
    (job,) = [line.split("|")[0] for line in listed if line.endswith(f"|runplan:{token}")]
    if ran:
        finished(job)
        (group / "1B_rank4" / "jobs.jsonl").unlink()  # as if it had been killed before its first act
    (programs / "sbatch").unlink()
    again = submit(group)
    assert again.returncode == 0, again.stderr
    assert f"found as job {job}" in again.stdout
    assert jobs_of(group)["1B_rank4/finetune.slurm"] == job
    assert "1 submitted, 1 already submitted" in again.stdout


def test_the_real_cluster_is_read_and_asked():
    cluster = read_cluster()
    assert cluster is not None
    assert cluster.slow == ()
    partition = cluster.partition(None)
    assert partition is not None
    assert partition.up
    assert partition.shapes
    assert would_take(tiny(request()))[0] is True
    ok, message = would_take(replace(tiny(request()), partition="no-such"))
    assert ok is False
    assert "partition" in message
