"""Reading many logs: cold against `grep -rE 'it/s'` over the same files, and warm.

    python benchmarks/priors.py [--logs 10000] [--dir DIR]

Makes logs of about 200 kB as torchtune 0.6.1 writes them (config, memory block, two epochs of bars, checkpoints), a run
directory each, warms the page cache with one grep, then times each program as a fresh process and prints the ratios.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = """Running LoRAFinetuneRecipeSingleDevice with resolved config:

batch_size: {batch}
checkpointer:
  _component_: torchtune.training.FullModelHFCheckpointer
  checkpoint_dir: /models/Llama-3.2-1B-Instruct/
  checkpoint_files:
  - model.safetensors
  model_type: LLAMA3_2
  output_dir: artifacts
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
metric_logger:
  _component_: torchtune.training.metric_logging.DiskLogger
  log_dir: logs
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
Writing logs to logs/log_1734708879.txt
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
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


def log_text(rng: random.Random, size: int) -> str:
    steps, s_per_step = size // 220, rng.uniform(0.15, 1.5)
    out = [CONFIG.format(batch=rng.choice([1, 2, 4, 8]), rank=rng.choice([4, 8, 64]))]
    for epoch in (1, 2):
        elapsed = 0.0
        for i in range(1, steps + 1):
            elapsed += s_per_step * rng.uniform(0.97, 1.03)
            done = (epoch - 1) * steps + i
            rate = f"{1 / s_per_step:5.2f}it/s" if s_per_step < 1 else f"{s_per_step:5.2f}s/it"
            blocks = "█" * (10 * i // steps)
            out.append(
                f"\r{epoch}|{done}|Loss: {rng.random():.16f}: {100 * i // steps:3d}%|{blocks:<10}| {i}/{steps} "
                f"[{clock(elapsed)}<{clock((steps - i) * s_per_step)}, {rate}]"
            )
        out.append("Starting checkpoint save...\nModel checkpoint of size 2.30 GiB saved to artifacts\n")
        out.append("Checkpoint saved in 33.06 seconds.\n")
    return "".join(out)


def make_logs(root: Path, number: int, size: int) -> None:
    rng = random.Random(14)
    texts = [log_text(rng, size) for _ in range(32)]
    for i in range(number):
        run = root / f"ck-out-{i // 100:03d}" / f"1B_rank{i % 100}"
        run.mkdir(parents=True)
        (run / f"slurm-{i + 100000}.out").write_text(texts[i % 32], encoding="utf-8")


def timed(command: str, env: dict[str, str]) -> tuple[float, float]:
    """Wall and CPU seconds of one command."""
    before, began = os.times(), time.perf_counter()
    subprocess.run(command, shell=True, check=True, env=env, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - began, os.times()
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=int, default=10_000)
    parser.add_argument("--bytes", type=int, default=200_000, help="size of a log")
    parser.add_argument("--dir", type=Path, help="where the logs are made (default: a temporary folder)")
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="priors-", dir=options.dir))
    try:
        make_logs(root / "logs", options.logs, options.bytes)
        env = {**os.environ, "XDG_CACHE_HOME": str(root / "cache"), "LOGS": str(root / "logs")}
        env["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).resolve().parents[1]), env.get("PYTHONPATH", "")])
        program = "import sys; from runplan.priors.command import main; sys.exit(main())"
        priors = f'{sys.executable} -c "{program}" "$LOGS" --json'
        grep = "grep -rE 'it/s' \"$LOGS\" | cat >/dev/null"
        timed(grep, env)
        rows = [("grep -rE it/s", grep), ("cold", f"{priors} --refresh"), ("warm", priors)]
        best = {name: min(timed(command, env) for _ in range(3)) for name, command in rows}
    finally:
        shutil.rmtree(root)
    print(f"{options.logs} logs of {options.bytes / 1000:.0f} kB, page cache warm, best of 3")
    for name, (wall, used) in best.items():
        print(f"  {name:<14} {wall:7.2f} s wall  {used:7.2f} s CPU  {wall / best['grep -rE it/s'][0]:5.2f} x grep")


if __name__ == "__main__":
    main()
