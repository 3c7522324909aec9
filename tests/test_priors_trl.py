"""What is read of TRL's runs: the log of our job, the configuration beside it; and damaged ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors import siblings
from runplan.priors.parse import parse_text
from runplan.priors.trl import trl_fields
from runplan.status.pace import training_pace

LOG = (Path(__file__).parent / "data/trl/sft_cpu_two_epochs.out").read_bytes()
SETTINGS = {
    "model": "Tiny-Llama-3.2", "lora_rank": 64, "lora_alpha": 128.0, "batch_size": 16, "max_seq_len": 2048,
    "lora_targets": ("q_proj", "v_proj", "output_proj", "mlp"), "gradient_accumulation_steps": 1, "packed": False,
    "dtype": "fp32", "activation_checkpointing": True, "epochs": 2, "save_adapter_weights_only": True, "gpu": "cpu",
    "num_gpus": 0,
}  # fmt: skip


def test_the_log_of_a_whole_run_says_everything():
    said = parse_text(LOG, "slurm-1.out")
    assert {key: said[key] for key in SETTINGS} == SETTINGS
    assert (said["trainer"], said["trainer_version"], said["recipe"]) == ("trl", "1.16.0", "sft")
    assert (said["state"], said["steps_done"], said["steps_total"]) == ("completed", 100, 100)
    assert said["checkpoint_s"] == (0.04, 0.07)
    assert said["wall_s"] == pytest.approx(7.95, abs=0.5)
    # 100 steps in the trainer's seconds, four validations and two saves among them
    assert 100 / said["wall_s"] < said["it_per_s"] < 2 * 100 / said["wall_s"]
    assert said["disk_log"].startswith("log_")
    assert said["first_step_s"] == pytest.approx(0.1, abs=0.05)


def test_a_run_that_was_cut_off_is_not_completed():
    said = parse_text(LOG[: LOG.index(b"Checkpoint saved in")])
    assert said["state"] == "unknown"
    assert said["steps_done"] == 50
    assert said["steps_total"] == 100
    assert said.get("checkpoint_s", ()) == ()


def test_a_run_that_went_on_from_a_checkpoint_counts_its_own_steps_and_all():
    head = LOG[: LOG.index(b"| 0/100 [") - 14].decode()
    drawn = ["  0%|          | 0/100 [00:00<?, ?it/s]"]
    drawn += [f" {n}%|#####     | {n}/100 [00:{(n - 50) // 2:02d}<00:10,  2.00it/s]" for n in range(51, 101)]
    ended = "{'train_runtime': '25.01', 'train_steps_per_second': '1.999', 'train_loss': '5.3', 'epoch': '2'}\n"
    evaluation = "100%|##########| 4/4 [00:00<00:00, 143.27it/s]\n"
    said = parse_text((head + "\r".join([*drawn, ended, evaluation])).encode())
    assert (said["steps_done"], said["steps_total"], said["state"]) == (100, 100, "completed")
    assert said["s_per_step"] == pytest.approx(0.5, rel=0.05)
    other = parse_text(f"{head}{ended}\r{evaluation}".encode())
    assert other.get("steps_done") is None


def test_a_run_that_is_under_way_says_where_it_is():
    pace = training_pace(LOG[: LOG.index(b"Checkpoint saved in")][-30_000:])
    assert (pace.done, pace.total) == (50, 100)
    assert pace.s_per_step == pytest.approx(1 / 14, rel=0.5)


def test_batches_that_ran_out_before_are_known():
    head = LOG[: LOG.index(b"Tokenizing")]
    tried = head + b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n"
    small = LOG.replace(b"per_device_train_batch_size: 16", b"per_device_train_batch_size: 8")
    said = parse_text(tried + small)
    assert (said["oom_batch_sizes"], said["batch_size"], said["state"]) == ((16,), 8, "completed")


def test_finetune_yaml_beside_a_log_is_read_whichever_trainers_it_is(tmp_path):
    (tmp_path / "finetune.yaml").write_text("model_name_or_path: /m/Llama-3.2-1B\nper_device_train_batch_size: 2\n")
    said = siblings.sibling_fields(str(tmp_path), ["finetune.yaml"])
    assert said == {"model": "Llama-3.2-1B", "params_b": 1.236, "batch_size": 2}
    (tmp_path / "finetune.yaml").write_text("batch_size: 3\ndtype: bf16\n")
    assert siblings.sibling_fields(str(tmp_path), ["finetune.yaml"]) == {"batch_size": 3, "dtype": "bf16"}


def test_what_is_of_no_use_is_left_out():
    flat = {"model_name_or_path": 3, "lora_r": True, "dtype": "float64", "lora_target_modules": "all-linear"}
    assert trl_fields(flat) == {"model": "3"}
    assert trl_fields({"dataset_name": "rows"}) == {}
    assert trl_fields({"dataset_name": "lab/words"}) == {"dataset": "lab/words"}


@given(cut=st.integers(0, len(LOG)), data=st.binary(max_size=40))
def test_damaged_text_never_raises(cut, data):
    parse_text(LOG[:cut] + data + LOG[cut + 20 :])
