"""finetune.slurm with the real trainer: out of memory, killed while saving, started again; the losses are the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from disturbed_jobs import start, write_run
from tiny_training import make_dataset, make_tiny_model

from runplan.priors.parse import parse_text
from runplan.trainers.torchtune import training_files

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]

# Runs in every Python that the job starts; only the trainer's own is to be disturbed.
SHIM = """
import os, signal, sys
if any(word.endswith("/tune") for word in sys.orig_argv) and ("FITS" in os.environ or "KILL_AT" in os.environ):
    import torch, torchtune.data
    collate, save, seen = torchtune.data.padded_collate_sft, torch.save, []
    def crowded(batch, *args, **kwargs):
        seen.append(len(batch))
        if len(batch) > int(os.environ.get("FITS", 99)) and len(seen) > int(os.environ["FITS_UNTIL"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return collate(batch, *args, **kwargs)
    def killed(what, path, *args, **kwargs):
        if str(path).endswith(os.environ.get("KILL_AT", "never")):
            open(path, "wb").write(b"PK half of a file")
            os.kill(os.getpid(), signal.SIGKILL)
        return save(what, path, *args, **kwargs)
    torchtune.data.padded_collate_sft, torch.save = crowded, killed
"""
EPOCHS = 3
SETTINGS = {
    "epochs": EPOCHS, "batch_size": 4, "gradient_accumulation_steps": 1, "trainer__max_rungs": 2,
    "trainer__max_steps_per_epoch": None, "optimizer__lr": 0.01, "optimizer__num_warmup_steps": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "words.json")


def losses(folder: Path) -> dict[int, float]:
    """Loss by step; what a later attempt logged counts."""
    found = {}
    for file in sorted((folder / "logs").glob("log_*.txt")):
        for line in file.read_text().splitlines():
            if " loss:" in line:
                found[int(line.split()[1])] = float(line.split(" loss:")[1].split()[0])
    return found


def attempts(folder: Path) -> list[tuple[str, str, int | None]]:
    events = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    return [(each["config"], each["reason"], each["resumed_epoch"]) for each in events if each["event"] == "attempt"]


def test_a_job_killed_while_saving_continues_behind_the_last_whole_epoch(model, dataset, tmp_path):
    adapters = {"validation": False, "trainer__save_adapter_weights_only": True}
    whole, folder = (
        write_run(training_files, tmp_path / name, SETTINGS | adapters, model, dataset)
        for name in ("whole", "a'; echo x")
    )
    assert start(whole, SHIM).returncode == 0
    killed = start(folder, SHIM, KILL_AT="epoch_1/adapter_model.pt", FITS_UNTIL="0")
    assert killed.returncode == 137, killed.stdout
    again = start(folder, SHIM)
    assert again.returncode == 0, again.stdout
    assert attempts(folder) == [("finetune.yaml", "start", None), ("finetune.yaml", "resume", 0)]
    assert losses(folder) == losses(whole)
    assert len(losses(folder)) == 6 * EPOCHS
    assert (folder / "attempts/1/artifacts/epoch_1/adapter_model.pt").stat().st_size < 50
    for name in ("adapter_model.safetensors", "tokenizer.json", "config.json"):
        for epoch in range(EPOCHS):
            mine, other = (each / f"artifacts/epoch_{epoch}" / name for each in (folder, whole))
            assert mine.read_bytes() == other.read_bytes()
    said = parse_text(again.stdout.encode())
    assert (said["state"], said["steps_done"], said["steps_total"]) == ("completed", 6 * EPOCHS, 6 * EPOCHS)
    done = start(folder, SHIM)
    assert parse_text(done.stdout.encode()) is None
    assert (done.returncode, len(attempts(folder))) == (0, 2)
    assert "this run is complete" in done.stdout


def test_out_of_memory_goes_on_with_a_smaller_batch_in_the_same_job(model, dataset, tmp_path):
    """In the second epoch (one is 6 batches, 12 with validation's): the rung continues behind the first."""
    folder = write_run(training_files, tmp_path / "oom", SETTINGS, model, dataset)
    done = start(folder, SHIM, FITS="3", FITS_UNTIL="22")
    assert done.returncode == 0, done.stdout
    assert attempts(folder) == [("finetune.yaml", "start", None), ("finetune.rung1.yaml", "oom", 0)]
    found = losses(folder)
    assert sorted(found) == list(range(1, 6 * EPOCHS + 1))
    whole = write_run(training_files, tmp_path / "whole", SETTINGS, model, dataset)
    assert start(whole, SHIM).returncode == 0
    assert found == pytest.approx(losses(whole), rel=2e-3)
    assert {path.name for path in (folder / "artifacts").glob("epoch_*")} == {f"epoch_{n}" for n in range(EPOCHS)}
    said = parse_text(next(folder.glob("slurm-local-*.out")).read_bytes())
    assert (said["state"], said["batch_size"], said["gradient_accumulation_steps"]) == ("completed", 2, 2)
    assert (said["steps_total"], said["oom_batch_sizes"]) == (6 * EPOCHS, (4,))
