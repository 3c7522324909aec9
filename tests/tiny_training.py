"""A tiny model, its data and runs of it, for tests with the real trainer."""

import json
from dataclasses import replace

from factories import make_config, make_run

from runplan.facts import DatasetFacts, ModelFacts, Split, Status

WIDE = {"hidden_size": 256, "head_dim": 64, "intermediate_size": 512}
"""The narrowest tiny model for weights in 4 bits: those of its keys have 256 x 128 numbers, two groups of NF4."""
ROWS = {"train": 24, "validation": 7, "test": 4}


def make_tiny_model(folder, **changes):
    from runplan.tiny import TINY, tiny_files

    architecture = replace(TINY, **changes)
    for name, content in tiny_files(architecture).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    shards = tuple(sorted(path.name for path in folder.glob("*.safetensors")))
    return ModelFacts(
        str(folder),
        Status.ok,
        architecture,
        shards=shards,
        tokenizer="tokenizer.json",
        tiktoken="original/tokenizer.model",
    )


def make_dataset(file):
    """Rows that can be read as instruct, chat or text; lengths differ, so that padding and weights matter."""
    file.write_text(json.dumps({role: [row(role, i) for i in range(n)] for role, n in ROWS.items()}))
    splits = {role: Split(role, n) for role, n in ROWS.items()}
    return DatasetFacts(str(file), Status.ok, 1, "instruct", splits, {role: role for role in splits})


def row(role, i):
    word = "abcdefghijklmnop"[: 2 + i % 9] + role
    turns = [{"role": "user", "content": word}, {"role": "assistant", "content": word.capitalize()}]
    return {"input": word, "output": word.capitalize(), "messages": turns, "text": f"{word} {word.capitalize()}"}


def planned(model, dataset, /, **settings):
    defaults = {
        "model": "tiny",
        "trainer__device": "cpu",
        "batch_size": 2,
        "gradient_accumulation_steps": 2,
        "max_seq_len": 64,
        "packed": False,
        "trainer__max_steps_per_epoch": 2,
        "trainer__run_val_every_n_steps": 1,
        "optimizer__num_warmup_steps": 0,
    }
    return make_run(make_config(**(defaults | settings)), model=model, dataset=dataset)


GLOO = """
import os, pathlib, runpy, sys, torch, torchtune, torchtune.training as training
start = torch.distributed.init_process_group
torch.distributed.init_process_group = lambda *a, **k: start("gloo")
torch.distributed.destroy_process_group = lambda: None
training.get_memory_stats = lambda device: {}
training.log_memory_stats = lambda stats: None
training.cleanup_before_training = lambda: None
ours = pathlib.Path("lora_finetune_distributed_val.py")
stock = pathlib.Path(torchtune.__file__).parent.parent / "recipes" / "lora_finetune_distributed.py"
try:
    runpy.run_path(str(ours if ours.exists() else stock), run_name="__main__")
except SystemExit as end:  # the recipes' own
    if end.code:
        raise
sys.stdout.flush(), sys.stderr.flush()
# Taking gloo apart aborts now and then ("terminate called without an active exception"); users have NCCL.
os._exit(0)
"""
"""A program for `tune run` that runs the distributed recipe on processors: it asks for NCCL and CUDA's statistics."""
