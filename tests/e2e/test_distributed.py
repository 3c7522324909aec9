"""Two processes on CPUs: validation leaves distributed training alone, and logs as training does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tiny_training import GLOO, WIDE, make_dataset, make_tiny_model, planned
from trained_runs import write

from runplan.recipe import choose_recipe

pytestmark = pytest.mark.trainer


def train_on_two(run, folder):
    """What two gloo processes logged; the recipe asks for NCCL and CUDA statistics, which are replaced."""
    write(run, folder)
    text = (folder / "finetune.yaml").read_text()
    (folder / "finetune.yaml").write_text(
        text.replace("device: cuda", "device: cpu").replace("fused: true", "fused: false")
    )
    (folder / "shim.py").write_text(GLOO)
    done = start(("tune", "run", "--nproc_per_node", "2", "shim.py", "--config", "finetune.yaml"), folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr, logged(folder)


def test_distributed_validates_and_leaves_training_alone(tmp_path):
    model, dataset = make_tiny_model(tmp_path / "tiny"), make_dataset(tmp_path / "rows.json")
    settings = {"resources__gpus": 2, "trainer__device": "cuda", "dtype": "fp32", "lora__dropout": 0.2}
    runs = [planned(model, dataset, validation=validation, **settings) for validation in (True, False)]
    assert all(run.recipe == choose_recipe(run.config) for run in runs)
    with ThreadPoolExecutor(2) as pool:
        folders = [tmp_path / run.recipe.name for run in runs]
        (said, validated), (_, plain) = pool.map(train_on_two, runs, folders)
    assert len(validated["loss"]) == len(validated["val_loss"]) == 2
    assert plain["loss"] == validated["loss"]
    assert "val_loss" not in plain
    assert re.search(r"Validation loss: \d+\.\d+ \| step 2 \| 2 batches in", said)
    (log,) = (folders[0] / "logs").glob("log_*.txt")
    lines = [line.strip() for line in log.read_text().splitlines()]
    assert [line.split(":")[0] for line in lines] == [
        f"Step {step} | {what}" for step in (1, 2) for what in ("loss", "val_loss")
    ]


def test_two_gpus_share_a_base_in_four_bits(tmp_path):
    model, dataset = make_tiny_model(tmp_path / "tiny", **WIDE), make_dataset(tmp_path / "rows.json")
    settings = {"resources__gpus": 2, "trainer__device": "cuda", "dtype": "fp32", "validation": False}
    run = planned(model, dataset, lora__quantize_base=True, **settings)
    assert run.recipe == choose_recipe(run.config)
    _, metrics = train_on_two(run, tmp_path / "run")
    assert len(metrics["loss"]) == 2
    assert (tmp_path / "run/artifacts/epoch_0/model.safetensors.index.json").exists()


def start(command, folder):
    scripts = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{scripts}:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": ""}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def logged(folder):
    (file,) = (folder / "logs").glob("log_*.txt")
    steps: dict[str, list[float]] = {}
    for line in file.read_text().splitlines():
        for key, value in re.findall(r"(\w+):([-+.\w]+)", line):
            steps.setdefault(key, []).append(float(value))
    return steps
