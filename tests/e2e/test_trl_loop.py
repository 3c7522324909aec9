"""The whole loop with TRL: plan, train through SLURM, evaluate the saved adapters, collect; and what the logs teach."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_base import taught_base

pytestmark = [pytest.mark.trl, pytest.mark.evaluation]

ROOT = Path(__file__).parents[2]
SHARED = ["model=tiny", "resources=cpu", "dataset.create=true", "dataset.n_words=1000", "dtype=fp32", "lora.rank=64"]
SHARED += ["optimizer.lr=3e-3", "batch_size=16", "packed=false", "resources.mem=4G", "resources.cpus_per_task=1"]
SHARED += ["trainer.run_val_every_n_steps=25", "evaluation.limit=40", "epochs=2", "evaluation.epochs=last"]
TRL = ["trainer=trl", "activation_checkpointing=false"]
LONGEST_S = 360
# What `trl sft` does with a configuration before it loads anything: unknown arguments are an error there.
SFT = """
import sys
from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, TrlParser
_, training, model, _ = TrlParser((ScriptArguments, SFTConfig, ModelConfig, DatasetMixtureConfig)) \\
    .parse_args_and_config(["--config", sys.argv[1]], fail_with_unknown_args=True)
print(training.learning_rate, training.max_grad_norm, training.eval_strategy.value, training.bf16, model.lora_r)
"""


@pytest.fixture
def lab(tmp_path, tmp_path_factory):
    """How to call runplan in an empty folder."""
    base = taught_base(tmp_path_factory.getbasetemp().parent / "taught")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": f"{ROOT}:{ROOT / 'runplan' / '_hydra'}",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def call(*command):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def runplan(*words):
        return call(sys.executable, "-m", "runplan", *words)

    runplan.plan = lambda *words: runplan(*SHARED, f"model.path={base}", *words)
    runplan.python = lambda *words: call(sys.executable, *words)
    runplan.folder = tmp_path
    return runplan


def planned(lab, group):
    document = json.loads((lab.folder / "outputs" / group / "plan.json").read_text())
    (run,) = (run for run in document["runs"] if run["type"] == "fine-tuned")
    return run


@pytest.mark.slurm
def test_a_run_and_its_control_through_slurm(lab):
    lab.plan(*TRL, "submit=sbatch", "group.name=first")
    first = planned(lab, "first")
    assert (first["trainer"], first["recipe"], first["steps"]["total"]) == ("trl", "sft", 100)
    directory = lab.folder / "outputs/first/tiny_rank64"
    said = lab.python("-c", SFT, str(directory / "finetune.yaml")).split()[-5:]
    assert said == ["0.003", "0.0", "steps", "False", "64"]
    lab("status", "outputs/first", "--watch", "5")
    states = {run["name"]: run["state"] for run in json.loads(lab("status", "outputs/first", "--json"))["runs"]}
    assert set(states.values()) == {"completed"}

    assert json.loads(lab("collect", "outputs/first", "--json"))["missing"] == []
    with (lab.folder / "outputs/first/results.csv").open() as file:
        found = {row["run"]: float(row["value"]) for row in csv.DictReader(file) if row["metric"] == "accuracy"}
    assert found["tiny_base"] <= 0.05
    assert found["tiny_rank64"] > 0.9
    readme = (lab.folder / "outputs/first/README.md").read_text()
    assert "## Results" in readme
    assert "## Estimated vs actual" in readme
    saved = {path.name for path in (directory / "artifacts/epoch_1").iterdir()}
    assert saved == {"adapter_config.json", "adapter_model.safetensors"}

    lab.plan(*TRL, "group.name=second")
    lab.plan("group.name=other")
    second, other = planned(lab, "second")["estimate"], planned(lab, "other")["estimate"]
    records = [json.loads(line) for line in (directory / "jobs.jsonl").read_text().splitlines()]
    (took,) = (record["seconds"] for record in records if record["event"] == "ended")
    assert abs(second["time_s"]["p50"] - took) < abs(first["estimate"]["time_s"]["p50"] - took)
    assert second["time_s"]["p95"] > took
    assert second["n_priors"] == 1
    assert any("outputs/first" in line and "weak" not in line for line in second["evidence"])
    assert any("weak: trl runs other kernels than torchtune" in line for line in other["evidence"])
    spread, wide = (each["time_s"]["p95"] / each["time_s"]["p50"] for each in (second, other))
    assert spread < wide
