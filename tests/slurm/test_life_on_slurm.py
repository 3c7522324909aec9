"""What befalls jobs on a real SLURM, all of it in one group: each ends as it should, or is tried again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import real_groups
from job_plans import fake_program
from real_groups import ledger

pytestmark = pytest.mark.slurm

TESTS = Path(__file__).parents[1]
LIMIT_S = 60
NO_SACCT = 'echo "Slurm accounting storage is disabled" >&2; exit 1'
EPOCHS = 2
TUNE = """
things=../../things
save() {
  mkdir -p artifacts/epoch_$1 artifacts/recipe_state
  cp $things/state.pt artifacts/recipe_state/recipe_state.pt
  cp $things/state.pt artifacts/epoch_$1/adapter_model.pt
  echo '{}' >artifacts/epoch_$1/config.json
  echo "1|5|Loss: 1.5: 100%|##| 5/5 [00:05<00:00, 1.00it/s]"
}
again() { [ "$(grep -c '"event": "attempt"' jobs.jsonl)" -gt 1 ]; }
echo 'Running Recipe with resolved config:'
case ${PWD##*/} in
  requeued | 'called off' | preempted | scrapped | lost)
    if ! again; then save 0; mkdir artifacts/epoch_1; echo saved; sleep 600; exit 1; fi ;;
  'host memory')
    if ! again; then { head -c 1400M /dev/zero; sleep 3; } | tail -n 1 >/dev/null; exit 137; fi
    save 0 ;;
  'GPU memory')
    case "$*" in *rung1*) save 0 ;; *) echo 'torch.OutOfMemoryError: CUDA out of memory.'; exit 1 ;; esac ;;
  *) save 0 ;;
esac
save 1
"""
STOPPED = {
    "requeued": {},
    "called off": {},
    "preempted": {"partition": "spare", "extra": ("--nodelist=n4",)},
    "scrapped": {"partition": "scraps", "extra": ("--nodelist=n4",)},
    "lost": {"extra": ("--nodelist=n3",)},
}
NAMES = {**STOPPED, "host memory": {}, "GPU memory": {}}
ENDED = ("completed", "failed", "oom", "host_oom", "timeout", "cancelled", "node_fail", "preempted", "unknown")


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def runplan(*words: str, codes=(0,), **env: str) -> str:
    line = [sys.executable, "-m", "runplan", *words]
    found = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), *sys.path]), **env}
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=120, cwd="/", env=found)
    assert done.returncode in codes, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def status(group: Path, **env: str) -> dict:
    return json.loads(runplan("status", str(group), "--json", codes=(0, 1), **env))


def jobs_of(found: dict) -> dict[str, dict]:
    """A status' jobs by name."""
    jobs = {}
    for run in found["runs"]:
        if run["training"]:
            jobs[run["name"]] = run["training"]
        jobs |= {cell["name"]: cell for cell in run["cells"]}
    return jobs


def until(group: Path, names, *states: str, **env: str) -> dict[str, dict]:
    """Jobs once those named are in one of some states."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        found = jobs_of(status(group, **env))
        if all(found[name]["state"] in states for name in names):
            return found
        assert time.monotonic() < deadline, {name: (job["state"], job["reason"]) for name, job in found.items()}
        time.sleep(0.7)


def attempts(folder: Path) -> list[tuple]:
    lines = map(json.loads, (folder / "jobs.jsonl").read_text().splitlines())
    return [(one["config"], one["reason"], one["resumed_epoch"]) for one in lines if one["event"] == "attempt"]


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> str:
    """A PATH with a trainer and an evaluation that only pretend."""
    folder = real_groups.programs(tmp_path_factory.mktemp("bin"))
    fake_program(folder, "tune", TUNE)
    return f"{folder}:{os.environ['PATH']}"


@pytest.fixture(scope="module")
def life(tmp_path_factory, path):
    """A group of arrays and single jobs to which everything happened that can; and its status on the way."""
    group = real_groups.named_group(tmp_path_factory.mktemp("life") / "the group", uuid.uuid4().hex[:12], NAMES, EPOCHS)
    seen = {"submitted": runplan("submit", str(group), "--via", "submitit", PATH=path)}
    ids = {line["path"].partition("/")[0]: line["job_id"] for line in ledger(group) if is_training(line)}
    until_said(group, STOPPED, "saved")
    output("scontrol", "requeue", ids["requeued"])
    output("scancel", ids["called off"])
    output("scontrol", "update", "nodename=n3", "state=down", "reason=test")
    urgent = ("--partition=main", "--nodelist=n4", "--cpus-per-task=32", "--time=5", "--output=/dev/null")
    output("sbatch", *urgent, "--wrap=true")
    pending = ["requeued", "preempted", "lost"]
    until(group, pending, "pending", "failed")
    gone = ["scrapped", "called off", "host memory"]
    until(group, [*pending, *gone], "pending", *ENDED)
    cells = [f"{name}/eval/cap_epoch{epoch}" for name in gone for epoch in range(EPOCHS)]
    seen["dealt"] = until(group, cells, "cancelled")  # SLURM takes its time to see that they can never begin
    with no_controller():  # what ends meanwhile is not lost
        time.sleep(1)
    subprocess.run(["scontrol", "update", "nodename=n3", "state=resume"], check=False)  # or it is back by itself
    for name in pending:  # SLURM lets two minutes pass
        output("scontrol", "update", f"JobId={ids[name]}", "StartTime=now+2")
    again = "host_oom,preempted,cancelled"
    seen["script"] = output("env", f"PATH={path}", "bash", str(group / "submit_all.sh"))
    seen["again"] = runplan("submit", str(group), "--only", again, "--json", PATH=path)
    seen["script again"] = output("env", f"PATH={path}", "bash", str(group / "submit_all.sh"))
    until(group, seen["dealt"], "completed", "failed")
    yield group, seen, ids
    subprocess.run(["scancel", *(line["job_id"] for line in ledger(group) if line["job_id"])], check=False)


def is_training(line: dict) -> bool:
    return bool(line["job_id"]) and line["path"].endswith("finetune.slurm")


def until_said(group: Path, names, words: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not all(words in "".join(log.read_text() for log in (group / name).glob("slurm-*.out")) for name in names):
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextmanager
def no_controller() -> Iterator[None]:
    """Without slurmctld, which is there again afterwards."""
    pid = int((Path(os.environ["SLURM_CONF"]).parents[1] / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.05)
    try:
        yield
    finally:
        output("slurmctld")


def states(found: dict[str, dict]) -> dict[str, tuple[str, ...]]:
    """Of trainings, each with its evaluations'."""
    return {
        name: tuple(found[each]["state"] for each in (name, *(f"{name}/eval/cap_epoch{n}" for n in range(EPOCHS))))
        for name in NAMES
    }


def test_what_befell_each_job_is_what_it_is_said_to_be(life):
    _, seen, _ = life
    gone = ("cancelled", "cancelled")
    found = states(seen["dealt"])
    assert found == {
        "requeued": ("pending",) * 3,
        "preempted": ("pending",) * 3,
        "lost": ("pending",) * 3,
        "called off": ("cancelled", *gone),
        "scrapped": ("preempted", *gone),
        "host memory": ("host_oom", *gone),
        "GPU memory": found["GPU memory"],
    }
    reasons = {name: seen["dealt"][name]["reason"] for name in NAMES}
    assert reasons["requeued"] == reasons["lost"] == "begins later, as was asked or after a requeue"
    assert "DUE TO PREEMPTION" in reasons["scrapped"]
    assert "oom-kill event" in reasons["host memory"] or "job memory limit" in reasons["host memory"]  # with cgroups


@pytest.mark.parametrize("accounting", [True, False], ids=["sacct", "no sacct"])
def test_in_the_end_everything_is_trained_and_evaluated(accounting, life, path, tmp_path):
    group, _, _ = life
    if not accounting:
        fake_program(tmp_path, "sacct", NO_SACCT)
        path = f"{tmp_path}:{path}"
    whole = status(group, PATH=path)
    assert whole["accounting"] == accounting
    found = jobs_of(whole)
    assert {job["state"] for job in found.values()} == {"completed"}, found
    assert {name for name, job in found.items() if job["config"]} == {"GPU memory"}
    assert found["GPU memory"]["config"] == "finetune.rung1.yaml"
    collected = json.loads(runplan("collect", str(group), "--json", PATH=path))
    assert collected["missing"] == []
    assert (group / "README.md").read_text().count("finetune.rung1.yaml") == 1
    assert "0 submitted, 22 already submitted" in runplan("submit", str(group), PATH=path)


def test_what_is_tried_again_goes_on_where_it_was(life):
    group, seen, ids = life
    resumed = [("finetune.yaml", "start", None), ("finetune.yaml", "resume", 0)]
    assert {name: attempts(group / name) for name in NAMES} == {
        **dict.fromkeys(STOPPED, resumed),
        "host memory": [("finetune.yaml", "start", None), ("finetune.yaml", "again", None)],
        "GPU memory": [("finetune.yaml", "start", None), ("finetune.rung1.yaml", "oom", None)],
    }
    again = {each["job"]: each for each in json.loads(seen["again"])["submitted"]}
    assert {name for name in again if "/" not in name} == {"called off", "scrapped", "host memory"}
    assert len(again) == (1 + EPOCHS) * 3
    (more,) = again["host memory"]["options"]
    assert more in {"--mem=2G", "--mem=3G"}  # half as much again as was asked for, or as was seen in use
    assert again["called off"]["options"] == []
    whole = jobs_of(status(group))
    assert {name: whole[name]["job_id"] for name in ("requeued", "preempted", "lost")} == {
        name: ids[name] for name in ("requeued", "preempted", "lost")
    }


def test_both_ways_to_submit_know_what_the_other_did(life):
    _, seen, _ = life
    for said in (seen["script"], seen["script again"]):
        assert "0 submitted, 22 already submitted, 0 not submitted" in said


def test_nobody_waits_for_a_job_that_slurm_forgot(path, tmp_path):
    """Of `afterok` with a forgotten number SLURM makes a job that runs at once."""
    group = real_groups.named_group(
        tmp_path / "g", uuid.uuid4().hex[:12], {"done": {}, "killed": {}}, EPOCHS, base=False
    )
    refuse = "echo 'sbatch: error: Batch job submission failed: Invalid qos specification' >&2; exit 1"
    bodies = {
        "first/tune": f'case $PWD in *killed) kill -9 "$PPID" ;; *) exec {path.partition(":")[0]}/tune "$@" ;; esac',
        "first/sbatch": f'case "$*" in *cell.slurm) {refuse} ;; esac; exec {shutil.which("sbatch")} "$@"',
        "later/squeue": "exit 0",
        "later/sacct": NO_SACCT,
        "later/sbatch": f'echo "$*" >>"{tmp_path}/asked"; exec {shutil.which("sbatch")} "$@"',
    }
    for name, body in bodies.items():
        folder, program = name.split("/")
        fake_program(tmp_path / folder, program, body)
    first, later = (f"{tmp_path / folder}:{path}" for folder in ("first", "later"))
    runplan("submit", str(group), codes=(1,), PATH=first)
    until(group, ["done", "killed"], "completed", "failed", PATH=path)
    said = runplan("submit", str(group), codes=(1,), PATH=later)
    assert "2 submitted" in said
    assert "killed/eval/cap_epoch0  not submitted: its training" in said
    assert "afterok" not in (tmp_path / "asked").read_text()
    until(group, ["done/eval/cap_epoch0", "done/eval/cap_epoch1"], "completed", PATH=path)
