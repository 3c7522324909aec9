"""Real trainings on a real SLURM: one is requeued after its first epoch, another runs out of GPU memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import real_groups

pytestmark = [pytest.mark.slurm, pytest.mark.trainer]

ROOT = Path(__file__).parents[2]
LIMIT_S = 180
PLAN = ["model=tiny", "resources=cpu", "resources.mem=2G", "resources.cpus_per_task=1", "dtype=fp32", "packed=false"]
PLAN += ["dataset.create=true", "dataset.n_words=100", "batch_size=8", "trainer.max_rungs=1", "epochs=2"]
PLAN += ["seed=1,2", "controls=false", "group.name=real"]
# In the trainer alone: no GPU for batches of 8 in one run; the other waits to be requeued once an epoch is saved.
SHIM = """
import os, sys, time
if any(word.endswith("/tune") for word in sys.orig_argv):
    import torch, torchtune.data
    collate = torchtune.data.padded_collate_sft
    def disturbed(batch, *args, **kwargs):
        if os.getcwd().endswith("seed2") and len(batch) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        if os.getcwd().endswith("seed1") and "SLURM_RESTART_COUNT" not in os.environ and os.path.exists("saved"):
            time.sleep(600)
        return collate(batch, *args, **kwargs)
    save = torch.save
    def saved(what, path, *args, **kwargs):
        save(what, path, *args, **kwargs)
        if str(path).endswith("recipe_state.pt"):
            open("saved", "w").close()
    torchtune.data.padded_collate_sft, torch.save = disturbed, saved
"""


@pytest.fixture
def runplan(tmp_path):
    """Calls it in an empty folder; the trainer is real, disturbed, and the evaluation pretends."""
    programs = tmp_path / "programs"
    real_groups.programs(programs)
    (programs / "tune").unlink()
    (tmp_path / "shim").mkdir()
    (tmp_path / "shim" / "sitecustomize.py").write_text(SHIM)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{tmp_path / 'shim'}:{ROOT}:{ROOT / 'runplan' / '_hydra'}",
        "OMP_NUM_THREADS": "1",
    }

    def call(*words: str) -> str:
        command = [sys.executable, "-m", "runplan", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    yield call
    group = tmp_path / "outputs" / "real"
    if (group / "ledger.jsonl").exists():
        jobs = [line["job_id"] for line in real_groups.ledger(group) if line["job_id"]]
        subprocess.run(["scancel", *jobs], check=False)


def records(run: Path) -> list[dict]:
    path = run / "jobs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def until(true) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_what_is_requeued_or_out_of_memory_is_trained_to_the_end(runplan, tmp_path):
    runplan(*PLAN, "submit=sbatch")
    group = tmp_path / "outputs" / "real"
    requeued, crowded = group / "tiny_rank8_seed1", group / "tiny_rank8_seed2"
    until((requeued / "saved").exists)
    (job,) = {line["job_id"] for line in records(requeued)}
    subprocess.run(["scontrol", "requeue", job], check=True)
    show = ["squeue", "-h", "-j", job, "-o", "%T"]
    until(lambda: subprocess.run(show, capture_output=True, text=True, check=True).stdout.strip() == "PENDING")
    subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now+2"], check=True)
    runplan("status", "outputs/real", "--watch", "5")
    found = {run["name"]: run for run in json.loads(runplan("status", "outputs/real", "--json"))["runs"]}
    assert {run["state"] for run in found.values()} == {"completed"}
    assert [run["training"]["config"] for run in found.values()] == [None, "finetune.rung1.yaml"]
    tries = {
        run: [(each["config"], each["resumed_epoch"]) for each in records(run) if each["event"] == "attempt"]
        for run in (requeued, crowded)
    }
    assert tries == {
        requeued: [("finetune.yaml", None), ("finetune.yaml", 0)],
        crowded: [("finetune.yaml", None), ("finetune.rung1.yaml", None)],
    }
    collected = json.loads(runplan("collect", "outputs/real", "--json"))
    assert collected["missing"] == []
    trainings = [each for each in collected["estimated_vs_actual"]["jobs"] if each["kind"] == "train"]
    assert [each["config"] for each in trainings] == [None, "finetune.rung1.yaml"]
    assert "tiny_rank8_seed2 ran with finetune.rung1.yaml (batch 4 × 2)" in (group / "README.md").read_text()
