"""`runplan status` beside a SLURM that really runs the jobs of a group, with and without its accounting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from job_plans import cell, control, fake_program, plan, request, run, write
from status_groups import SIZING

from runplan.cli import main as runplan
from runplan.files.document import document_text, plan_document

pytestmark = pytest.mark.slurm

LIMIT_S = 40
TRAINER = r"""
case ${PWD##*/} in
  fails) echo 'Traceback (most recent call last):'; echo 'ValueError: no such column: input'; exit 1 ;;
  oom) echo 'torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.'; exit 1 ;;
  killed) kill -9 "$PPID"; sleep 60 ;;
esac
printf 'Running Recipe with resolved config:\n'
for n in 1 2 3 4 5 6 7 8; do
  printf '1|%d|Loss: 1.5:  1%%|#  | %d/250 [00:%02d<09:00,  2.00s/it]\r' "$n" "$n" "$((2 * n))"
done
case ${PWD##*/} in runs) sleep 300 ;; esac
mkdir -p artifacts/epoch_0
echo '{}' >artifacts/epoch_0/config.json
"""
EXPECTED = {
    "completes": "completed", "fails": "failed", "oom": "oom", "killed": "failed", "runs": "running",
    "held": "pending", "called off": "cancelled", "control": "completed",
}  # fmt: skip


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A group of which every run does something else, submitted with its script; and how its jobs are called."""
    path = tmp_path_factory.mktemp("status")
    tokens = uuid.uuid4().hex[:12]
    fake_program(path / "bin", "tune", TRAINER)
    log = '{"status": "success", "results": {"scores": []}}'
    fake_program(path / "bin", "inspect", f"echo evaluated; echo '{log}' >logs/1.json")
    group = group_of(path, tokens)
    done = subprocess.run(
        ["bash", str(group / "submit_all.sh")], capture_output=True, text=True, timeout=120, check=False,
        env=os.environ | {"PATH": f"{path / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    jobs = [json.loads(line) for line in (group / "ledger.jsonl").read_text().splitlines()]
    ids = {line["path"]: line["job_id"] for line in jobs if line["event"] == "submitted"}
    output("scancel", ids["called off/finetune.slurm"])
    yield group, ids
    subprocess.run(["scancel", *ids.values()], check=False)


def group_of(path: Path, tokens: str) -> Path:
    things = path / "things"
    things.mkdir()
    for name in ("config.json", "words.json", "inspect.py"):
        (things / name).write_text("{}")
    asked = replace(request(), time_s=600, mem_gib=1, cpus_per_task=1, gpus=0)
    cells = (cell(0, str(things / "inspect.py"), request=asked),)
    runs = []
    for number, name in enumerate(EXPECTED):
        mine = replace(asked, extra=("--hold",) if name in {"held", "called off"} else ())
        made = control(name, f"{tokens}{number}") if name == "control" else run(
            name, token=f"{tokens}{number}", request=mine, sizing=SIZING, cells=cells)  # fmt: skip
        if name == "control":
            made = replace(made, cells=(replace(made.cells[0], script=str(things / "inspect.py"), request=asked),))
        dataset = replace(made.dataset, path=str(things / "words.json"))
        runs.append(replace(made, model=replace(made.model, path=str(things)), dataset=dataset))
    planned = plan(*runs, directory=str(path / "the group"))
    group = write(planned)
    (group / "plan.json").write_text(document_text(plan_document(planned)))
    return group


def settled(group: Path, capsys) -> dict:
    """The status once everything is as it will stay."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        assert runplan(["status", str(group), "--json"]) in {0, 1}
        found = json.loads(capsys.readouterr().out)
        runs = {one["name"]: one for one in found["runs"]}
        going = [one for one in runs.values() if one["training"] and one["name"] not in {"runs", "held"}]
        cells = [cell for one in (*going, runs["control"]) for cell in one["cells"]]
        open_jobs = [
            job for job in (*cells, *(one["training"] for one in going)) if job["state"] in {"pending", "running"}
        ]
        if (not open_jobs and runs["runs"]["training"]["done"] == 8) or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


@pytest.mark.parametrize("accounting", [True, False], ids=["sacct", "no sacct"])
def test_every_job_is_what_slurm_made_of_it(accounting, place, tmp_path, monkeypatch, capsys):
    group, ids = place
    if not accounting:
        fake_program(tmp_path / "bin", "sacct", "echo 'sacct: error: Slurm accounting storage is disabled' >&2; exit 1")
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    found = settled(group, capsys)
    assert (found["slurm"], found["accounting"], found["failed"]) == ("answered", accounting, True)
    runs = {one["name"]: one for one in found["runs"]}
    assert {name: (one["training"] or one["cells"][0])["state"] for name, one in runs.items()} == EXPECTED
    cells = {name: one["cells"][0] for name, one in runs.items()}
    assert {name: one["state"] for name, one in cells.items()} == {
        **dict.fromkeys(("completes", "control"), "completed"),
        **dict.fromkeys(("fails", "oom", "killed", "called off"), "cancelled"),
        **dict.fromkeys(("runs", "held"), "pending"),
    }
    assert cells["runs"]["reason"] == cells["held"]["reason"] == "waiting for the training"
    assert cells["fails"]["reason"] == "its training did not complete (failed)"
    assert runs["fails"]["training"]["reason"] == "ValueError: no such column: input"
    assert runs["fails"]["training"]["exit_code"] == 1
    assert Path(runs["fails"]["training"]["log"]).name == f"slurm-{ids['fails/finetune.slurm']}.out"
    assert runs["oom"]["training"]["reason"].startswith("torch.OutOfMemoryError")
    assert runs["held"]["training"]["reason"].startswith("held by its user")
    running = runs["runs"]["training"]
    assert (running["done"], running["total"], running["it_per_s"]) == (8, 250, 0.5)
    assert 400 < running["remaining_s"] < 600
    assert runs["killed"]["training"]["reason"].startswith(("killed by signal 9", "it did not write its end"))
    assert runs["called off"]["training"]["reason"] is None
    assert all((group / path).parent.is_dir() for path in ids)


def test_while_the_controller_is_away_the_jobs_speak(place, tmp_path, monkeypatch, capsys):
    group, _ = place
    settled(group, capsys)
    fake_program(
        tmp_path / "bin", "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1"
    )
    fake_program(tmp_path / "bin", "sacct", "exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert runplan(["status", str(group), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    states = {one["name"]: (one["training"] or one["cells"][0])["state"] for one in found["runs"]}
    known = {name: state for name, state in EXPECTED.items() if name not in {"held", "called off", "killed"}}
    assert {name: states[name] for name in known} == known
    assert (states["held"], states["called off"], found["over"]) == ("unknown", "unknown", False)
    assert found["notes"][0].startswith("SLURM does not answer")


def test_a_cancelled_job_and_a_deleted_run_are_said(place, capsys):
    group, ids = place
    settled(group, capsys)
    output("scancel", ids["runs/finetune.slurm"])
    shutil.rmtree(group / "held")
    deadline = time.monotonic() + LIMIT_S
    while True:
        runplan(["status", str(group), "--json"])
        found = json.loads(capsys.readouterr().out)
        runs = {one["name"]: one for one in found["runs"]}
        if runs["runs"]["training"]["state"] != "running" or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    assert runs["runs"]["training"]["state"] == "cancelled"
    assert runs["held"]["training"]["state"] == "pending"
    assert any("directories that are gone: held" in note for note in found["notes"])
