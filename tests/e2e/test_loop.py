"""The whole loop for real: plan, train, validate, evaluate, collect, learn; through SLURM, and on one machine alone."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_base import taught_base

pytestmark = [pytest.mark.trainer, pytest.mark.evaluation]

ROOT = Path(__file__).parents[2]
SHARED = ["model=tiny", "resources=cpu", "dataset.create=true", "dataset.n_words=2000", "dtype=fp32"]
SHARED += ["optimizer.lr=3e-3", "batch_size=16", "packed=false", "resources.mem=4G", "resources.cpus_per_task=1"]
SHARED += ["trainer.run_val_every_n_steps=50", "evaluation.limit=60"]
LONGEST_S = 360


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return taught_base(tmp_path_factory.getbasetemp().parent / "taught")


@pytest.fixture
def lab(tmp_path, base):
    """An empty folder to work in, and how to call runplan there."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'runplan' / '_hydra'}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def runplan(*words, codes=(0,)):
        command = [sys.executable, "-m", "runplan", *words]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        assert done.returncode in codes, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def plan(*words):
        runplan(*SHARED, f"model.path={base}", *words)

    runplan.plan = plan
    runplan.folder = tmp_path
    return runplan


def estimates(folder, group):
    """What was expected of each training."""
    document = json.loads((folder / "outputs" / group / "plan.json").read_text())
    return {run["name"]: run["estimate"] for run in document["runs"] if run["type"] == "fine-tuned"}


def cell_estimates(folder, group):
    """What was expected of each evaluation, by its directory in the group."""
    document = json.loads((folder / "outputs" / group / "plan.json").read_text())
    return {f"{run['dir']}/{cell['dir']}": cell for run in document["runs"] for cell in run["cells"]}


def trained_s(directory):
    """How long a job took, by its own record."""
    records = [json.loads(line) for line in (directory / "jobs.jsonl").read_text().splitlines()]
    (seconds,) = (record["seconds"] for record in records if record["event"] == "ended")
    return seconds


def mean_error(expected, truth):
    return sum(abs(expected[name]["time_s"]["p50"] - seconds) for name, seconds in truth.items()) / len(truth)


def rows(folder, group):
    with (folder / "outputs" / group / "results.csv").open() as file:
        return [row for row in csv.DictReader(file) if row["metric"] == "accuracy"]


@pytest.mark.slurm
def test_two_ranks_two_seeds_and_a_control_through_slurm(lab):
    """What the factors did is what comes back, and the second plan is nearer to the truth than the first."""
    lab.plan("lora.rank=4,64", "seed=1,2", "submit=sbatch", "group.name=first")
    lab("status", "outputs/first", "--watch", "5", codes=(0,))
    said = json.loads(lab("status", "outputs/first", "--json"))
    assert {run["state"] for run in said["runs"]} == {"completed"}

    collected = json.loads(lab("collect", "outputs/first", "--json"))
    assert collected["missing"] == []
    found = {row["run"]: float(row["value"]) for row in rows(lab.folder, "first")}
    assert len(found) == 5
    assert found["tiny_base"] <= 0.05
    low, high = ([value for name, value in found.items() if name.startswith(f"tiny_rank{rank}_")] for rank in (4, 64))
    assert min(high) > 0.9
    assert sum(high) / 2 > sum(low) / 2 > found["tiny_base"] + 0.2
    readme = (lab.folder / "outputs/first/README.md").read_text()
    assert "## Results" in readme
    assert "## Estimated vs actual" in readme

    lab.plan("lora.rank=4,64", "seed=1,2", "group.name=second")
    before, after = estimates(lab.folder, "first"), estimates(lab.folder, "second")
    truth = {name: trained_s(lab.folder / "outputs/first" / name) for name in after}
    assert len(truth) == 4
    assert {one["source"] for one in after.values()} == {"priors"}
    assert all("outputs/first" in " ".join(one["evidence"]) for one in after.values())
    assert mean_error(after, truth) < mean_error(before, truth)
    assert all(after[name]["time_s"]["p95"] >= seconds for name, seconds in truth.items())

    before, after = cell_estimates(lab.folder, "first"), cell_estimates(lab.folder, "second")
    took = {name: trained_s(lab.folder / "outputs/first" / name) for name in after}
    assert len(took) == 5
    assert {(one["time_source"], one["time_logs"]) for one in after.values()} == {("priors", 5)}
    assert mean_error(after, took) < 0.25 * sum(took.values()) / len(took)
    assert sum(took[name] <= one["time_s"]["p95"] for name, one in after.items()) >= 4
    assert all(one["time_s"]["p95"] < 1.6 * one["time_s"]["p50"] for one in after.values())
    assert all(one["time_s"]["p95"] < before[name]["time_s"]["p95"] for name, one in after.items())


def test_a_run_and_its_control_on_this_machine(lab):
    lab.plan("lora.rank=64", "submit=local", "group.name=here")
    assert json.loads(lab("collect", "outputs/here", "--json"))["missing"] == []
    found = {row["run"]: float(row["value"]) for row in rows(lab.folder, "here")}
    assert found["tiny_rank64"] > 0.8
    assert found["tiny_base"] <= 0.05
    ledger = (lab.folder / "outputs/here/ledger.jsonl").read_text()
    lab("submit", "outputs/here", "--via", "local")
    assert (lab.folder / "outputs/here/ledger.jsonl").read_text() == ledger, "what ran is not run again"
