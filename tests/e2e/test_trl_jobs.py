"""finetune.slurm with TRL: out of memory, killed while saving, started again; and two processes sharing each step.

The losses are those of one undisturbed run. Jobs run two at a time: each takes some ten seconds to import TRL.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from disturbed_jobs import start, write_run
from tiny_training import make_dataset, make_tiny_model

from runplan.priors.parse import parse_text
from runplan.priors.read import read_priors
from runplan.trainers.trl import training_files

pytestmark = [pytest.mark.trl, pytest.mark.filterwarnings("ignore")]

# Runs in every Python that the job starts; only the trainer's own is to be disturbed.
SHIM = """
import os, signal, sys
if any(word.endswith("sft.py") for word in sys.orig_argv) and "FITS" in os.environ:
    sys.modules["torchao"] = None
    import torch
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as Collator
    collate, save = Collator.torch_call, torch.save
    def crowded(self, examples):
        if len(examples) > int(os.environ["FITS"]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return collate(self, examples)
    def killed(what, path, *args, **kwargs):
        if str(path).endswith(os.environ.get("KILL_AT", "never")):
            open(path, "wb").write(b"PK half of a file")
            os.kill(os.getpid(), signal.SIGKILL)
        return save(what, path, *args, **kwargs)
    Collator.torch_call, torch.save = crowded, killed
"""
EPOCHS, STEPS = 3, 6
SETTINGS = {
    "trainer": "trl", "epochs": EPOCHS, "batch_size": 4, "gradient_accumulation_steps": 1, "trainer__max_rungs": 2,
    "trainer__max_steps_per_epoch": None, "optimizer__lr": 0.01, "optimizer__num_warmup_steps": 2, "dtype": "fp32",
    "trainer__run_val_every_n_steps": 3,
}  # fmt: skip


def losses(folder: Path, name: str = "loss") -> dict[int, float]:
    """Loss by step; what a later attempt logged counts."""
    found = {}
    for file in sorted((folder / "logs").glob("log_*.txt")):
        for line in file.read_text().splitlines():
            if f" {name}:" in line:
                found[int(line.split()[1])] = float(line.split(f" {name}:")[1].split()[0])
    return found


def attempts(folder: Path) -> list[tuple[str, str, int | None]]:
    events = [json.loads(line) for line in (folder / "jobs.jsonl").read_text().splitlines()]
    return [(each["config"], each["reason"], each["resumed_epoch"]) for each in events if each["event"] == "attempt"]


def two_processes(folder: Path) -> None:
    """Make of a job for two GPUs one for two processes on processors."""
    text = (folder / "finetune.yaml").read_text()
    text = text.replace("use_cpu: false", "use_cpu: true").replace("adamw_torch_fused", "adamw_torch")
    (folder / "finetune.yaml").write_text(text)


def test_jobs_that_run_out_or_are_killed_learn_what_undisturbed_ones_do(tmp_path):
    model, dataset = make_tiny_model(tmp_path / "tiny"), make_dataset(tmp_path / "rows.json")
    whole, folder = (
        write_run(training_files, tmp_path / name, SETTINGS, model, dataset) for name in ("whole", "a'; echo x")
    )
    gpus = {"resources__gpus": 2, "trainer__device": "cuda", "batch_size": 2, "trainer__max_rungs": 0}
    pair = write_run(training_files, tmp_path / "pair", SETTINGS | gpus, model, dataset)
    two_processes(pair)
    with ThreadPoolExecutor(2) as pool:  # of each pair the second job begins when the first has ended
        undisturbed = pool.submit(lambda: (start(whole, SHIM), start(pair, SHIM)))
        disturbed = pool.submit(
            lambda: (start(folder, SHIM, FITS="3", KILL_AT="checkpoint-12/optimizer.pt"), start(folder, SHIM, FITS="3"))
        )
    (done, together), (killed, again) = undisturbed.result(), disturbed.result()
    assert done.returncode == 0, done.stdout
    assert killed.returncode == 137, killed.stdout
    assert again.returncode == 0, again.stdout
    assert together.returncode == 0, together.stdout
    rung = "finetune.rung1.yaml"
    assert attempts(folder) == [("finetune.yaml", "start", None), (rung, "oom", None), (rung, "resume", 0)]
    expected = losses(whole)
    assert sorted(expected) == list(range(1, STEPS * EPOCHS + 1))
    assert expected[STEPS * EPOCHS] < 0.9 * expected[1]
    assert losses(folder) == pytest.approx(expected, rel=2e-3)
    assert losses(folder, "val_loss") == pytest.approx(losses(whole, "val_loss"), rel=2e-3)
    # Two processes see other rows together, but as many a step, and learn as much.
    assert sorted(losses(pair)) == sorted(expected)
    assert losses(pair, "val_loss")[18] == pytest.approx(losses(whole, "val_loss")[18], rel=0.2)
    for each in (whole, folder, pair):
        saved = sorted((each / "artifacts").glob("epoch_*/adapter_model.safetensors"))
        assert [path.parent.name for path in saved] == [f"epoch_{n}" for n in range(EPOCHS)]
        assert [path.name for path in (each / "artifacts").glob("checkpoint-*")] == ["checkpoint-18"]
        assert not list(each.glob(".cache/*"))
    assert again.stdout.count("GPU memory") == 0
    finished = start(folder, SHIM)
    assert (finished.returncode, len(attempts(folder))) == (0, 3)
    assert "this run is complete" in finished.stdout
    check_log(folder, tmp_path / "cache")


def check_log(folder: Path, cache: Path) -> None:
    """What the log tells the next plan: of the resumed attempt, with the settings of its own configuration."""
    log = max(folder.glob("slurm-local-*.out"), key=lambda path: path.stat().st_size)
    assert parse_text(log.read_bytes())["oom_batch_sizes"] == (4,)
    runs = {Path(run.path).name: run for run in read_priors([str(folder)], None, cache, folder).runs}
    (run,) = (run for run in runs.values() if run.state == "completed")
    assert (run.trainer, run.trainer_version, run.recipe, run.gpu) == ("trl", "1.16.0", "sft", "cpu")
    assert (run.batch_size, run.gradient_accumulation_steps, run.lora_rank, run.dtype) == (2, 2, 8, "fp32")
    assert (run.epochs, run.steps_done, run.steps_total) == (EPOCHS, STEPS * EPOCHS, STEPS * EPOCHS)
    assert run.lora_targets == ("q_proj", "v_proj", "output_proj", "mlp")
    assert len(run.checkpoint_s) == 2
    assert run.startup_s > 1
    assert run.first_step_s is None or run.first_step_s < 5


@pytest.mark.parametrize("lengths", [(9, 17, 5, 12), (30, 1, 1, 30)])
def test_packed_rows_do_not_see_each_other(lengths, tmp_path, monkeypatch):
    """Without FlashAttention a mask keeps the rows of a pack apart: the same log-probabilities as row by row."""
    monkeypatch.setitem(sys.modules, "torchao", None)
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling
    from trl.trainer.utils import add_fused_lm_head

    model = AutoModelForCausalLM.from_pretrained(make_tiny_model(tmp_path / "tiny").path, dtype=torch.float32)
    add_fused_lm_head(model, outputs=("log_probs",))
    rows = [[(7 * i + 3 * j) % 250 for j in range(length)] for i, length in enumerate(lengths)]
    packs = [
        {"input_ids": rows[i] + rows[i + 1], "seq_lengths": [lengths[i], lengths[i + 1]]}
        for i in range(0, len(rows), 2)
    ]

    def total(examples, *, packed):
        collate = DataCollatorForLanguageModeling(pad_token_id=260, padding_free=packed)
        with torch.no_grad():
            return float(model(**collate(examples), fused_lm_head=True).log_probs.sum())

    apart = sum(total([{"input_ids": row}], packed=False) for row in rows)
    assert total(packs, packed=True) == pytest.approx(apart, rel=1e-5)
    assert total([{"input_ids": row} for row in rows], packed=False) == pytest.approx(apart, rel=1e-5)
