r"""Reading the logs of earlier runs: cold beside `grep -rE 'it/s'` over the same files, and warm beside `import hydra`.

The logs are made here, as torchtune 0.6.1 and SLURM write them, about 200 kB each, a run directory each. tqdm redraws a
bar with a carriage return, twice a step (when the step is counted and when its loss is known). Of 20 logs
- 10 are such a file as it is: nearly all of it is one line; torchtune's own messages stand between;
- 5 were collected line by line (`srun --label`, `tr '\r' '\n'`): every draw ends in a newline;
- 3 begin with the bar of packing and have validation losses between the draws;
- 2 have StdoutLogger's `Step … | loss:… peak_memory_…` lines between the draws.
"""

from __future__ import annotations

import argparse
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import ENVIRONMENT, IMPORT_HYDRA, Row, show

WARM = 3.5
"""Times `import hydra`, at most, when all logs are known: half a second on a 3 GHz core."""
KINDS = (*["redrawn"] * 10, *["lines"] * 5, *["validated"] * 3, *["stepped"] * 2)
DISTINCT = 100
"""Texts made; more logs than that repeat them."""

CONFIG = """Running LoRAFinetuneRecipeSingleDevice with resolved config:

batch_size: {batch}
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: /models/Llama-3.2-1B-Instruct/
  checkpoint_files:
  - model.safetensors
  model_type: LLAMA3_2
  output_dir: artifacts/{run}
  recipe_checkpoint: null
clip_grad_norm: null
compile: false
dataset:
  _component_: torchtune.datasets.instruct_dataset
  data_files: words.json
  packed: true
  source: json
device: cuda
dtype: bf16
enable_activation_checkpointing: false
epochs: 2
gradient_accumulation_steps: 4
log_every_n_steps: 1
log_peak_memory_stats: true
{more}metric_logger:
  _component_: torchtune.training.metric_logging.{logger}
model:
  _component_: torchtune.models.llama3_2.lora_llama3_2_1b
  apply_lora_to_mlp: true
  lora_alpha: 16
  lora_attn_modules:
  - q_proj
  - v_proj
  - output_proj
  lora_rank: {rank}
tokenizer:
  _component_: torchtune.models.llama3.llama3_tokenizer
  max_seq_len: 2048

Setting manual seed to local seed 14. Local seed is seed + rank = 14 + 0
Model is initialized with precision torch.bfloat16.
Memory stats after model init:
\tGPU peak memory allocation: 2.33 GiB
\tGPU peak memory reserved: 2.34 GiB
\tGPU peak memory active: 2.33 GiB
Tokenizer is initialized from file.
Optimizer and loss are initialized.
Learning rate scheduler is initialized.
"""


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes:02d}:{rest:02d}"


def draw(text: str, done: int, total: int, elapsed_s: float, s_per_step: float) -> str:
    eighths = 80 * done // total
    bar = ("█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths < 80 else "")).ljust(10)
    rate = f"{1 / s_per_step:5.2f}it/s" if s_per_step < 1 else f"{s_per_step:5.2f}s/it"
    left = clock((total - done) * s_per_step)
    return f"\r{text}{100 * done // total:3d}%|{bar}| {done}/{total} [{clock(elapsed_s)}<{left}, {rate}]"


def bars(rng: random.Random, kind: str, steps: int) -> Iterator[str]:
    s_per_step, epochs = rng.uniform(0.15, 1.5), 2
    for epoch in range(1, epochs + 1):
        elapsed_s, loss = 0.0, ""
        for i in range(1, steps + 1):
            elapsed_s += s_per_step * rng.uniform(0.97, 1.03)
            step = (epoch - 1) * steps + i
            yield draw(loss, i, steps, elapsed_s, s_per_step)
            loss = f"{epoch}|{step}|Loss: {rng.random():.16f}: "
            yield draw(loss, i, steps, elapsed_s, s_per_step)
            if kind == "stepped":
                yield f"Step {step} | loss:{rng.random():.16f} lr:0.0003 tokens_per_second_per_gpu:{rng.random()} "
                yield f"peak_memory_active:{rng.uniform(17, 18)} peak_memory_alloc:17.1 peak_memory_reserved:19.4 \n"
            elif kind == "validated" and i % 100 == 0:
                elapsed_s += 6
                yield f"Validation loss: {rng.random():.6f} | step {step} | 25 batches in 6.00 seconds\n"
        elapsed_s += 33
        yield "Starting checkpoint save...\nModel checkpoint of size 2.30 GiB saved to artifacts\n"
        yield "Checkpoint saved in 33.06 seconds.\n" + draw(loss, steps, steps, elapsed_s, s_per_step)


def log_text(rng: random.Random, kind: str, size: int) -> str:
    text = CONFIG.format(
        batch=rng.choice([1, 2, 4, 8]),
        rank=rng.choice([4, 8, 64]),
        run=rng.randrange(10**6),
        logger="StdoutLogger" if kind == "stepped" else "DiskLogger",
        more="run_val_every_n_steps: 100\n" if kind == "validated" else "",
    )
    if kind == "validated":
        text += "".join(draw("Packing dataset: ", i, 5000, i / 900, 1 / 900) for i in range(1, 5001, 90))
    text += "".join(bars(rng, kind, size // (980 if kind == "stepped" else 440)))
    return text.replace("\r", "\n") if kind == "lines" else text


def make_logs(root: Path, number: int, size: int) -> None:
    rng = random.Random(14)
    texts = [log_text(rng, KINDS[i % len(KINDS)], size) for i in range(DISTINCT)]
    for i in range(number):
        run = root / f"ck-out-{i // 100:03d}" / f"1B_rank{i % 100}"
        run.mkdir(parents=True)
        (run / f"slurm-{i + 100000}.out").write_text(texts[i % DISTINCT], encoding="utf-8")


def seconds(command: list[str], env: dict[str, str]) -> tuple[float, float]:
    """Wall time, and CPU time of the command and all it started."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    subprocess.run(command, check=True, env=env, stdout=subprocess.DEVNULL)
    taken = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def medians(logs: Path, cache: Path, rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU time of each, in turns, so that a busy moment hits all; the first turn only fills caches."""
    # SLURM's accounting is no part of this: without PATH, no `sacct` is found.
    env = ENVIRONMENT | {"XDG_CACHE_HOME": str(cache), "PATH": "", "PYTHONPATH": str(Path(__file__).parents[1])}
    program = [sys.executable, "-c", "import sys; from runplan.priors.command import main; sys.exit(main())"]
    grep, cat = (shutil.which(name) or sys.exit(f"{name} is not here") for name in ("grep", "cat"))
    commands = {
        "grep": ["/bin/sh", "-c", f'{grep} -rE it/s "$0" | {cat} >/dev/null', str(logs)],
        "cold": [*program, str(logs), "--json", "--refresh"],
        "warm": [*program, str(logs), "--json"],
        IMPORT_HYDRA: [sys.executable, "-c", IMPORT_HYDRA],
    }
    taken = [{name: seconds(command, env) for name, command in commands.items()} for _ in range(rounds + 1)]
    return {
        name: (
            statistics.median(one[name][0] for one in taken[1:]),
            statistics.median(one[name][1] for one in taken[1:]),
        )
        for name in commands
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--logs", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=200_000, help="size of a log")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the logs are made (default: a temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="priors-", dir=options.dir) as name:
        make_logs(Path(name) / "logs", options.logs, options.bytes)
        taken = medians(Path(name) / "logs", Path(name) / "cache", options.rounds)
    rival, grep, hydra = taken["grep"][0], "grep -rE 'it/s' DIR | cat", taken[IMPORT_HYDRA][0]
    rows = [
        Row("nothing known", taken["cold"][0], rival, grep, rival, "s"),
        # With one core free this is the wall time.
        Row("nothing known, CPU time", taken["cold"][1], taken["grep"][1], grep, taken["grep"][1], "s"),
        Row("all known", taken["warm"][0], hydra, IMPORT_HYDRA, WARM * hydra, "s"),
    ]
    # Wall time is what counts; CPU time is what a busy machine does not change.
    print("CPU: " + ", ".join(f"{name} {cpu_s:.2f} s" for name, (_, cpu_s) in taken.items()))
    title = f"{options.logs} logs of {options.bytes / 1000:.0f} kB, read and printed as JSON"
    show(title, rows)


if __name__ == "__main__":
    main()
