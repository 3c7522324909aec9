"""TRL 1.16.0's supervised fine-tuning as a job of runplan's.

    python sft.py --config finetune.yaml

Trains as `trl sft --config finetune.yaml` does: the same arguments, read by TRL's own parser, the same `SFTTrainer`.
What it adds is beside the training: adapters of every epoch in `epoch_N` of `output_dir`, in a log file of one line a
step what other tools read (loss, learning rate, peak memory), and going on behind an epoch that was saved whole.
"""

import json
import math
import os
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.modules.setdefault("torchao", None)  # not needed here, and peft refuses the version that torchtune needs

import peft  # noqa: E402 - after torchao is out of the way
import torch  # noqa: E402 - same
import transformers  # noqa: E402 - same
import trl  # noqa: E402 - same
from datasets import load_dataset  # noqa: E402 - same

ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
"""What an evaluation loads, on top of the base model."""


@dataclass
class JobArguments:
    """What a job adds to TRL's own arguments."""

    metrics_dir: str | None = field(default=None, metadata={"help": "Folder of the log file; none without it."})
    resume_epoch: int = field(default=-1, metadata={"help": "Go on behind this epoch, counted from 0; -1: begin."})


class EpochSaver(trl.SFTTrainer):
    """TRL's trainer; says how long a save takes, and puts an epoch's adapters where evaluations look for them."""

    def _save_checkpoint(self, model, trial):
        started = time.perf_counter()
        super()._save_checkpoint(model, trial)
        if not self.is_world_process_zero():
            return
        output = Path(self.args.output_dir)
        epoch = max(0, math.ceil(self.state.epoch - 1e-6) - 1)
        keep_adapter(output / f"checkpoint-{self.state.global_step}", output / f"epoch_{epoch}")
        spent = time.perf_counter() - started
        sys.stdout.write(f"\nCheckpoint saved in {spent:.2f} seconds: epoch {epoch}, step {self.state.global_step}\n")


def keep_adapter(checkpoint, place):
    """Copy a checkpoint's adapter; it is in its place whole or not at all."""
    beside = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    for name in ADAPTER:
        shutil.copyfile(checkpoint / name, beside / name)
    shutil.rmtree(place, ignore_errors=True)
    beside.rename(place)


class StepLog(transformers.TrainerCallback):
    """A line a logged step in `log_<time>.txt`: loss, learning rate, peak GPU memory since the line before."""

    def __init__(self, folder):
        """Open the file, and say where it is: the time in its name is that of the start, before the model is read."""
        self.file = None
        if folder and is_first_process():
            Path(folder).mkdir(parents=True, exist_ok=True)
            path = Path(folder) / f"log_{int(time.time())}.txt"
            self.file = path.open("a", encoding="utf-8", buffering=1)
            sys.stdout.write(f"Writing logs to {path}\n")

    def on_train_begin(self, args, state, control, **_):  # noqa: ARG002 - as it is called
        """Begin to measure."""
        if torch.cuda.is_available() and not args.use_cpu:
            torch.cuda.reset_peak_memory_stats()

    def on_log(self, args, state, control, logs=None, **_):  # noqa: ARG002 - as it is called
        """Write a line of training or of validation."""
        logs = logs or {}
        if not state.is_world_process_zero:
            return
        if "eval_loss" in logs:
            values = {"val_loss": logs["eval_loss"]}
            sys.stdout.write(f"\nValidation loss: {logs['eval_loss']:.6f} | step {state.global_step} \n")
        elif "loss" in logs:
            values = {"loss": logs["loss"], "lr": logs.get("learning_rate", 0.0)} | peaks_gib(args)
        else:
            return
        if self.file:
            said = " ".join(f"{name}:{value!r}" for name, value in values.items())
            self.file.write(f"Step {state.global_step} | {said} \n")


def peaks_gib(args):
    """Highest memory use of this process's GPU since it was last asked, by kind; none without a GPU."""
    if args.use_cpu or not torch.cuda.is_available():
        return {}
    stats, gib = torch.cuda.memory_stats(), 2**30
    torch.cuda.reset_peak_memory_stats()
    return {
        "peak_memory_active": stats.get("active_bytes.all.peak", 0) / gib,
        "peak_memory_alloc": stats.get("allocated_bytes.all.peak", 0) / gib,
        "peak_memory_reserved": stats.get("reserved_bytes.all.peak", 0) / gib,
    }


def checkpoint_of(output, epoch):
    """The checkpoint that was saved at the end of an epoch."""
    for state in sorted(Path(output).glob("checkpoint-*/trainer_state.json")):
        if math.isclose(json.loads(state.read_text())["epoch"], epoch + 1, abs_tol=1e-6):
            return str(state.parent)
    raise SystemExit(f"no checkpoint of epoch {epoch} in {output}")


def is_first_process():
    """Whether this process is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


def say_settings(words):
    """Print versions and the configuration, so that the log tells alone what was trained."""
    if not is_first_process():
        return
    versions = {"trl": trl, "transformers": transformers, "peft": peft, "torch": torch}
    sys.stdout.write(f"{', '.join(f'{name} {module.__version__}' for name, module in versions.items())}\n")
    if "--config" in words:
        text = Path(words[words.index("--config") + 1]).read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
        sys.stdout.write("\n".join(["Running SFTTrainer with resolved config:", "", *lines, "", ""]))
    sys.stdout.flush()


def main(words):
    """Train as the arguments say."""
    say_settings(words)
    kinds = (trl.ScriptArguments, trl.SFTConfig, trl.ModelConfig, JobArguments)
    script, training, model, job = trl.TrlParser(kinds).parse_args_and_config(words)
    training.model_init_kwargs = {"attn_implementation": model.attn_implementation, "dtype": model.dtype} | (
        training.model_init_kwargs or {}
    )
    training.save_total_limit = 1  # whole checkpoints are for going on; what is evaluated lies in epoch_N
    steps = StepLog(job.metrics_dir)
    rows = load_dataset(script.dataset_name)
    trainer = EpochSaver(
        model=model.model_name_or_path,
        args=training,
        train_dataset=rows[script.dataset_train_split],
        eval_dataset=rows[script.dataset_test_split] if training.eval_strategy != "no" else None,
        peft_config=trl.get_peft_config(model),
        callbacks=[steps],
    )
    resumed = checkpoint_of(training.output_dir, job.resume_epoch) if job.resume_epoch >= 0 else None
    trainer.train(resume_from_checkpoint=resumed)
    if trainer.accelerator.num_processes == 1:
        trainer.end()
    else:
        leave(trainer.accelerator)


def leave(accelerator):
    """End one of several processes, as everything is saved.

    Taking the group apart (`Trainer.end`) was seen to wait for ever for a process that had already gone.
    """
    for tracker in accelerator.trackers:
        tracker.finish()
    if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
        sys.modules["wandb"].finish()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
