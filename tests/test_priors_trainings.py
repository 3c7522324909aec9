"""Several trainings in one text: the last one is told, with what it was asked itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.priors.parse import parse_text
from runplan.priors.trainings import last_training


def training(steps: int, each_s: int, *, runtime: float | None, losses: bool = True, asked: str = "") -> str:
    lines = [asked, f"  0%|          | 0/{steps} [00:00<?, ?it/s]"]
    for done in range(1, steps + 1):
        time_s = done * each_s
        clock = f"{time_s // 60:02d}:{time_s % 60:02d}"
        lines.append(f" {100 * done // steps}%|###       | {done}/{steps} [{clock}<00:00, {each_s:5.2f}s/it]")
        if losses and done % 10 == 0:
            lines.append(f"{{'loss': 1.5, 'grad_norm': 0.3, 'learning_rate': 1e-05, 'epoch': {done / steps:.2f}}}")
    if runtime is not None:
        lines.append(f"{{'train_runtime': {runtime}, 'train_steps_per_second': {steps / runtime:.3f}, 'epoch': 1.0}}")
    return "\n".join(lines) + "\n"


EVALUATION = "\n".join(f"{done}%|##   | {done}/100 [00:{done // 2:02d}<00:00,  2.00it/s]" for done in range(101)) + "\n"
RESULT = "TrainOutput(global_step=40, metrics={'train_runtime': 80.1, 'train_steps_per_second': 0.499})\n"


@settings(max_examples=30)
@given(st.integers(2, 9), st.integers(2, 9), st.booleans(), st.booleans(), st.sampled_from(["", EVALUATION, RESULT]))
def test_the_last_of_two_trainings_is_told(first, second, losses, ended, between):
    text = training(40, first, runtime=40.1 * first, losses=losses) + between
    text += training(40, second, runtime=40.1 * second + 0.1 if ended else None, losses=losses or not ended)
    said = parse_text(text.encode())
    assert said["s_per_step"] == pytest.approx(second, rel=0.03)
    assert said.get("wall_s") == pytest.approx(40.1 * second + 0.1 if ended else 40 * second)
    assert said["state"] == ("completed" if ended else "unknown")


def test_each_is_told_with_what_it_was_asked_itself():
    small = "--model_name_or_path meta-llama/Llama-3.2-1B --per_device_train_batch_size 4 --lora_r 8"
    large = "--model_name_or_path meta-llama/Llama-3.2-3B --per_device_train_batch_size 2"
    text = training(20, 2, runtime=40.5, asked=small) + training(20, 5, runtime=100.5, asked=large)
    said = parse_text(text.encode())
    assert (said["model"], said["params_b"], said["batch_size"], said["lora_rank"]) == ("Llama-3.2-3B", 3.213, 2, 8)
    unknown = parse_text(text.replace("meta-llama/Llama-3.2-3B", "mine/tuned").encode())
    assert unknown["model"] == "tuned"
    assert unknown.get("params_b") is None


@pytest.mark.parametrize(
    "after",
    [
        RESULT.replace("80.1", "80.5"),
        "wandb: train_runtime 80.5\n" + EVALUATION,
        "[{'loss': 1.5, 'epoch': 0.5}, {'loss': 1.2, 'epoch': 1.0}, {'train_runtime': 80.5, 'epoch': 1.0}]\n",
        "***** train metrics *****\n  train_runtime            = 0:01:20.50\n  train_steps_per_second   =      0.497\n",
    ],
)
def test_what_tells_of_the_only_training_again_is_no_other(after):
    text = training(40, 2, runtime=80.5)
    assert last_training((text + after).encode()) == (0, 0)
    assert parse_text((text + after).encode())["wall_s"] == 80.5


def test_ranks_that_each_tell_their_time_are_one_training():
    lines = b"{'train_runtime': 80.5, 'epoch': 1.0}\n{'train_runtime': 80.61, 'epoch': 1.0}\n"
    assert last_training(lines) == (0, 0)


def test_what_the_first_one_ended_with_does_not_complete_the_second():
    metrics = (
        "***** train metrics *****\n  train_runtime            = 0:01:20.50\n  train_steps_per_second   =      0.497\n"
    )
    said = parse_text((training(40, 2, runtime=80.5) + metrics + training(40, 3, runtime=None)).encode())
    assert said["state"] == "unknown"
    assert said["wall_s"] == 120


def test_a_number_that_is_none_is_no_time():
    assert last_training(b"{'train_runtime': 1.2.3}\n{'train_runtime': 0}\n{'train_runtime': 9}\n") == (0, 0)


FAILS = (
    "  0%|          | 0/40 [00:00<?, ?it/s]Traceback (most recent call last):\n"
    '  File "/site-packages/transformers/trainer.py", line 1938, in train\n    return inner_training_loop(\n'
    "RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.\n  0%|\n"
)


def test_a_later_training_that_fails_before_its_first_loss_is_the_one_told():
    said = parse_text((training(40, 2, runtime=80.5) + EVALUATION + FAILS).encode())
    assert (said["steps_done"], said["steps_total"], said.get("wall_s")) == (0, 40, None)
    assert said["state"] == "oom"


def test_a_traceback_of_the_training_that_ended_begins_no_other():
    text = training(40, 2, runtime=80.5) + FAILS.partition("Traceback")[2].replace("\n", "\n ")
    assert last_training(text.encode()) == (0, 0)


@pytest.mark.parametrize(
    ("after", "again"),
    [
        ("", None),
        ("***** Running Evaluation *****\n" + EVALUATION, True),
        ("***** eval metrics *****\n  eval_runtime            = 0:54:22.24\n", True),
        ("Saving model checkpoint to out\n", None),
    ],
)
def test_whose_job_evaluated_afterwards_is_known(after, again):
    within = "{'eval_loss': 1.0, 'eval_runtime': 20.0}\n"
    assert parse_text((within + training(40, 2, runtime=80.5) + after).encode()).get("again") is again
