"""Composed torchtune logs of which the truth is known: what ends a run, what interrupts it, what starts it again."""

from typing import Any

import pytest

from runplan.priors import ending
from runplan.priors.parse import parse_text

SLURM = "slurmstepd: error: *** JOB 7 ON node1 CANCELLED AT 2026-01-02T03:04:05 "
TRACEBACK = "\nTraceback (most recent call last):\n  File x\n"
OOM = TRACEBACK + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB\n"
SAVED = "Saving checkpoint. This may take some time.\nAdapter checkpoint of size 0.02 GiB saved to /o\n"
SAVED += "Saving checkpoint took 20.51 secs\n"


def config(epochs: int = 1, batch: int = 4, more: str = "") -> str:
    return (
        "INFO:torchtune.utils._logging:Running LoRAFinetuneRecipeSingleDevice with resolved config:\n\n"
        f"batch_size: {batch}\nepochs: {epochs}\ngradient_accumulation_steps: 2\n{more}"
        "model:\n  _component_: torchtune.models.llama3_2.lora_llama3_2_1b\n  lora_rank: 8\n\n"
        "Setting manual seed to local seed 1.\n"
    )


def bar(epoch: int, done: int, total: int, at_s: float, s_per_step: float) -> str:
    rate = f"{1 / s_per_step:.2f}it/s" if s_per_step < 1 else f"{s_per_step:.2f}s/it"
    clock = f"{int(at_s) // 60:02d}:{int(at_s) % 60:02d}"
    head = f"\r{epoch}|{(epoch - 1) * total + done}|Loss: 1.2: {100 * done // total}%"
    return f"{head}|##| {done}/{total} [{clock}<00:10,  {rate}]"


def steps(epoch: int = 1, done: int = 100, total: int = 100, s_per_step: float = 0.5) -> str:
    """Bars from the first step of an epoch, which takes 8 s more, to some step."""
    return "".join(bar(epoch, n, total, 8 + n * s_per_step, s_per_step) for n in range(1, done + 1))


def epoch(number: int = 1, total: int = 100, s_per_step: float = 0.5) -> str:
    last = bar(number, total, total, 8 + total * s_per_step + 20, 1.2 * s_per_step)
    return steps(number, total, total, s_per_step) + SAVED + last + "\n"


VALIDATION = (
    "".join(f"\rRunning validation Loss: 1.3: : {n}it [00:{n // 4:02d},  4.2it/s]" for n in range(1, 99)) + "\n"
)
PACKING = "".join(f"\rPacking dataset:  {n}%|##| {n}/99 [00:{n // 2:02d}<00:10,  2.0it/s]" for n in range(99)) + "\n"
NOTHING = "  0%|          | 0/250 [00:00<?, ?it/s]"
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "done": (config(2) + epoch(1) + epoch(2), {"steps_done": 200, "steps_total": 200, "state": "completed", "s": 0.5}),
    "cut while evaluating": (config() + epoch() + SLURM + "DUE TO TIME LIMIT ***\n", {"state": "completed"}),
    "a worker was killed, training went on": (
        config() + epoch() + "slurmstepd: error: Detected 1 oom_kill event in StepId=7.batch.\n",
        {"state": "completed", "reason": None},
    ),
    "evaluation has no memory": (config() + epoch() + OOM, {"state": "completed", "reason": None}),
    "time limit after one epoch of two": (
        config(2) + epoch() + SLURM + "DUE TO TIME LIMIT ***\n",
        {"state": "timeout", "steps_done": 100, "steps_total": 200, "s": 0.5},
    ),
    "cut off": (config() + steps(done=60), {"state": "unknown", "steps_done": 60, "steps_total": 100, "s": 0.5}),
    "tried again with half the batch": (
        config() + steps(done=5) + OOM + config(batch=2) + epoch(total=200, s_per_step=0.3),
        {"batch_size": 2, "oom_batch_sizes": (4,), "steps_done": 200, "state": "completed", "s": 0.3},
    ),
    "preempted, then went on with the second epoch": (
        f"{config(3)}{epoch(1)}{steps(2, 30)}\n{SLURM}DUE TO PREEMPTION ***\n{config(3)}{epoch(2)}{epoch(3)}",
        {"steps_done": 300, "steps_total": 300, "wall_s": None, "state": "completed", "s": 0.5},
    ),
    "validation in between": (
        config(more="run_val_every_n_steps: 20\n") + steps(done=20) + VALIDATION + steps(done=60),
        {"steps_done": 60, "state": "unknown", "s": 0.5},
    ),
    "packing first": (config() + PACKING + epoch(s_per_step=0.8), {"steps_done": 100, "state": "completed", "s": 0.8}),
    "a limit of steps": (
        config(2, more="max_steps_per_epoch: 50\n") + epoch(1, 50) + epoch(2, 50),
        {"steps_done": 100, "steps_total": 100, "state": "completed", "s": 0.5},
    ),
    "no memory for the first step": (
        config() + NOTHING + OOM,
        {"steps_done": 0, "steps_total": 250, "state": "oom", "s_per_step": None, "wall_s": None},
    ),
    "an exception, and the bar once more": (
        config() + steps(done=40) + TRACEBACK + "ValueError: bad sample 17\n" + bar(1, 40, 100, 29, 0.5),
        {"state": "failed", "reason": "ValueError: bad sample 17", "steps_done": 40},
    ),
    "interrupted": (config() + steps(done=40) + TRACEBACK + "KeyboardInterrupt\n", {"state": "cancelled"}),
    "told to stop": (
        config() + steps(done=40) + TRACEBACK + "torch.distributed.SignalException: Process 4 got signal: 15\n",
        {"state": "cancelled"},
    ),
    "the shell tells of a signal": (
        config() + steps(done=40) + "\n/var/spool/slurmd/job7/slurm_script: line 31: 123 Killed   tune run x\n",
        {"state": "failed", "reason": "/var/spool/slurmd/job7/slurm_script: line 31: 123 Killed tune run x"},
    ),
    "the disk is full": (
        config() + steps() + SAVED.splitlines()[0] + TRACEBACK + "OSError: [Errno 28] No space left on device: '/o'\n",
        {"state": "failed", "reason": "OSError: [Errno 28] No space left on device: '/o'", "steps_done": 100},
    ),
    "the launcher tells only that a rank failed": (
        config() + steps(done=40) + TRACEBACK + "KeyError: 'input'\ntorch.elastic.ChildFailedError: \n",
        {"state": "failed", "reason": "KeyError: 'input'"},
    ),
    "a word that only looks like SLURM's": (
        config() + steps(done=40) + "\nThe story ended. Terminated by the author, Killed off DUE TO TIME LIMIT\n",
        {"state": "unknown"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_a_composed_log_says(name):
    text, truth = CASES[name]
    fields = parse_text(text.encode(), "slurm-7.out") or {}
    expected = {key: value for key, value in truth.items() if key != "s"}
    assert {key: fields.get(key) for key in expected} == expected
    if "s" in truth:
        assert fields["s_per_step"] == pytest.approx(truth["s"], rel=0.02)


RATES = "".join(
    f"Step {n} | loss:1.0 lr:0.1 tokens_per_second_per_gpu:{900.0 if n > 5 else 9.0}\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("logger", "padded", "trained"),
    [("torchtune.utils.logging", 1800.0, None), ("torchtune.utils._logging", None, 900.0)],
)
def test_the_logger_s_tokens_have_padding_up_to_version_0_2(logger, padded, trained):
    command = "tune run --nproc_per_node 2 lora_finetune_distributed --config llama3_1/8B_lora\n"
    fields = parse_text(f"{command}INFO:{logger}:Model is initialized with precision torch.bfloat16.\n{RATES}".encode())
    assert (fields.get("tokens_per_s"), fields.get("trained_tokens_per_s")) == (padded, trained)


def test_the_request_that_a_prolog_prints_tells_the_gpu():
    prolog = "   JobId=7 JobName=sft\n   NumNodes=1 TresPerNode=gres/gpu:h200:2\n"
    fields = parse_text((prolog + config().replace("SingleDevice", "Distributed")).encode())
    assert (fields["gpu"], fields["num_gpus"]) == ("h200-141", 2)
    assert parse_text((prolog + "NVIDIA A100-SXM4-80GB\n" + config()).encode())["gpu"] == "a100-80"


def test_hugging_face_s_lines_written_as_json_are_read():
    lines = (
        '{"loss": 1.2, "learning_rate": 1e-05, "epoch": 0.5}\n{"train_runtime": 36.5, "train_steps_per_second": 2.0}\n'
    )
    fields = parse_text(lines.encode()) or {}
    assert (fields["trainer"], fields["wall_s"], fields["it_per_s"]) == ("hf", 36.5, 2.0)
    assert fields["state"] == "completed"


def test_every_sign_of_an_end_has_a_letter_by_which_it_is_not_passed_over():
    signs = [sign for _, some in ending._SIGNS for sign in some]
    assert len(signs) > 30
    assert [sign for sign in signs if not any(letter in sign for letter in ending._LETTERS)] == []
