"""A tiny base model that LoRA can teach something: `model=tiny` that has learnt to repeat a word, and nothing else.

Adapters on random weights learn little. This base answers `user: someword` with `someword` in Llama 3's chat format:
it scores 0 on capitalization, and LoRA on it learns the task, the better the higher the rank: 0.54 with rank 4 and
1.00 with rank 64 on 800 words with batch_size=16 optimizer.lr=3e-3 dtype=fp32. It is made in about 9 s on one core by
`python tests/tiny_base.py FOLDER`; `taught_base` makes it once and keeps it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

from runplan import tiny

LETTERS = b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
LENGTH = 8
"""Letters a word, as many as the capitalization data has by default; other lengths are not learnt."""
STEPS = 320
ROWS = 16
PEAK_LR = 3e-3
SCALE = 5
"""Of the random weights before teaching: 0.02, their deviation, is for wide models; one this narrow would not learn."""


def taught_base(cache_dir: Path) -> Path:
    """The model folder, made below `cache_dir` unless it is there; the same weights on the same kind of machine.

    Safe to call from several processes at once. Needs torch and transformers, in a process of their own.
    """
    identity = hashlib.sha256(Path(__file__).read_bytes() + Path(tiny.__file__).read_bytes()).hexdigest()[:12]
    folder = cache_dir / f"Tiny-Llama-3.2-taught-{identity}"
    if folder.exists():
        return folder
    beside = folder.with_name(f"{folder.name}.{os.getpid()}")
    beside.parent.mkdir(parents=True, exist_ok=True)
    root = Path(tiny.__file__).parents[1]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, __file__, beside], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"no taught base: {done.stderr[-2000:]}")
    try:
        beside.rename(folder)
    except OSError:  # another process was faster
        shutil.rmtree(beside)
    return folder


def conversation(word: bytes) -> tuple[list[int], int]:
    """Token ids of the word, asked and repeated, and how many of them are the assistant's (its header, too)."""
    special = tiny.special_tokens()
    begin, start, end, stop = (
        special[f"<|{name}|>"] for name in ("begin_of_text", "start_header_id", "end_header_id", "eot_id")
    )
    asked = [begin, start, *b"user", end, *b"\n\n", *word, stop]
    answer = [start, *b"assistant", end, *b"\n\n", *word, stop]
    return asked + answer, len(answer)


def teach(folder: Path) -> None:
    """Train `model=tiny` in this folder to repeat words of random letters; every weight is trained."""
    import torch
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    rng = random.Random(0)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(SCALE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, STEPS, pct_start=0.06)
    for _ in range(STEPS):
        words = (bytes(LETTERS[int(rng.random() * len(LETTERS))] for _ in range(LENGTH)) for _ in range(ROWS))
        rows, (answer, *_) = zip(*(conversation(word) for word in words), strict=True)
        tokens = torch.tensor(rows)
        logits = model(input_ids=tokens[:, :-1], logits_to_keep=answer).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, -answer:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    shards = json.loads((folder / "model.safetensors.index.json").read_text())["weight_map"]
    weights = model.state_dict()
    for shard in sorted(set(shards.values())):
        held = {name: weights[name].to(torch.bfloat16) for name, where in shards.items() if where == shard}
        save_file(held, folder / shard, metadata={"format": "pt"})
    if loss.item() > 0.05:
        raise RuntimeError(f"the base has not learnt to repeat words: loss {loss.item():.3f} after {STEPS} steps")


if __name__ == "__main__":
    tiny.create(Path(sys.argv[1]))
    teach(Path(sys.argv[1]))
