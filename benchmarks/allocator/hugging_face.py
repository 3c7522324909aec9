"""How true the simulated allocator is: LoRA steps of Hugging Face models that fitcheck measured on a Tesla T4.

    python benchmarks/allocator/hugging_face.py                  # the table
    python benchmarks/allocator/hugging_face.py --keep FOLDER    # and the requests, for tests

Source of the measured figures: fitcheck-llm 0.3.1, data/measurements/t4-sweep-2026-09-15.json and
t4-phase3-2026-09-16.json (MIT): LoRA of rank 32 on q, k, v, o in fp32, the model in fp16, AdamW, checkpointing without
reentry, rows of one length, memory-efficient attention. Three repetitions of a run there came back equal to the bit.

Needs torch, transformers and peft, no GPU and no checkpoint.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from allocator.caching import Allocator, Block
from allocator.ledger import Event, Trace, recorder
from allocator.programs import WORKSPACE, Peaks

MIB = 2**20


class Measured(NamedTuple):
    """One run on the T4; MiB."""

    model: str
    shape: tuple[int, int, int, int, int, int]
    """hidden, layers, heads, key-value heads, intermediate, vocabulary."""
    batch: int
    tokens: int
    allocated: float
    reserved: float


SMOL_17, TINY = (2048, 24, 32, 32, 8192, 49152), (2048, 22, 32, 4, 5632, 32000)
SMOL_135, SMOL_360 = (576, 30, 9, 3, 1536, 49152), (960, 32, 15, 5, 2560, 49152)
QWEN = (1536, 28, 12, 2, 8960, 151936)
RUNS = (
    Measured("Qwen2.5-1.5B", QWEN, 2, 1024, 7401.81, 7766.0),
    Measured("Qwen2.5-1.5B", QWEN, 1, 2048, 7402.32, 7766.0),
    Measured("SmolLM2-1.7B", SMOL_17, 4, 1024, 6528.75, 7094.0),
    Measured("SmolLM2-1.7B", SMOL_17, 1, 2048, 4976.98, 5398.0),
    Measured("SmolLM2-360M", SMOL_360, 1, 4096, 3754.78, 3912.0),
    Measured("SmolLM2-135M", SMOL_135, 1, 4096, 3148.11, 3284.0),
    Measured("SmolLM2-135M", SMOL_135, 2, 512, 1026.92, 1070.0),
    Measured("TinyLlama-1.1B", TINY, 2, 512, 2756.19, 2880.0),
    Measured("TinyLlama-1.1B", TINY, 2, 1024, 3287.83, 3532.0),
    Measured("TinyLlama-1.1B", TINY, 2, 2048, 4354.12, 4696.0),
)
RANK = 32


def traced(run: Measured, steps: int = 2) -> Trace:
    """Requests of moving the model to the GPU and adding adapters, then of each step."""
    import peft
    import torch
    import transformers
    from torch._subclasses.fake_tensor import FakeTensorMode

    hidden, layers, heads, key_values, intermediate, vocabulary = run.shape
    qwen = run.model.startswith("Qwen")
    config = (transformers.Qwen2Config if qwen else transformers.LlamaConfig)(
        hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=key_values,
        intermediate_size=intermediate, vocab_size=vocabulary, max_position_embeddings=8192, use_cache=False,
        tie_word_embeddings=run.shape != TINY, attn_implementation="sdpa",
    )  # fmt: skip
    with FakeTensorMode(allow_non_fake_inputs=True), _plain_moves():
        torch.set_default_dtype(torch.float16)
        model: Any = (transformers.Qwen2ForCausalLM if qwen else transformers.LlamaForCausalLM)(config)
        torch.set_default_dtype(torch.float32)
        record = recorder()
        for tensor in (*model.parameters(), *model.buffers()):
            record.note(tensor)
        targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
        lora = peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, lora_dropout=0.0, target_modules=targets)
        model = peft.get_peft_model(model, lora)
        for tensor in model.parameters():
            record.note(tensor)
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        model.enable_input_require_grads()
        model.train()
        with record:
            trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=1e-4, foreach=True)
            batch = torch.zeros(run.batch, run.tokens, dtype=torch.long)
            for _ in range(steps):
                record.trace.append([])
                optimizer.zero_grad(set_to_none=True)
                out = model(input_ids=batch, labels=batch)
                out.loss.backward()
                optimizer.step()
                del out
            return [list(events) for events in record.trace]


@contextmanager
def _plain_moves() -> Iterator[None]:
    """Let adapters change their number format in place: fake tensors cannot be swapped, and torchao is not used."""
    import peft.tuners.lora.torchao
    import torch

    def to(module: Any, *args: Any, **kwargs: Any) -> Any:
        for dtype in (x for x in (*args, *kwargs.values()) if isinstance(x, torch.dtype)):
            for parameter in module.parameters():
                if parameter.dtype != dtype:
                    parameter.data = parameter.data.to(dtype)
        return module

    no_torchao = mock.patch.object(peft.tuners.lora.torchao, "is_torchao_available", return_value=False)
    with mock.patch.object(torch.nn.Module, "to", to), no_torchao:
        yield


def replay(trace: Trace) -> Peaks:
    """Peaks of allocated and reserved bytes when nothing else is on the GPU."""
    allocator = Allocator()
    held: dict[int, Block] = {}
    for i, events in enumerate(trace):
        for event in events:
            if event.size:
                held[event.storage] = allocator.allocate(event.size)
            else:
                allocator.free(held.pop(event.storage))
        if i == 0:
            allocator.allocate(WORKSPACE)
    return Peaks(allocator.peak_allocated, allocator.peak_reserved)


def keep(trace: Trace, path: Path) -> None:
    """Write the requests compressed: a list a step, sizes in bytes and the negated numbers of storages that go."""
    steps = [[event.size or -event.storage for event in events] for events in trace]
    path.write_bytes(gzip.compress(json.dumps(steps, separators=(",", ":")).encode(), mtime=0))


def kept(path: Path) -> Trace:
    """Read what `keep` wrote; storages are numbered in the order in which they come."""
    number = 0
    trace: Trace = []
    for values in json.loads(gzip.decompress(path.read_bytes())):
        trace.append([])
        for value in values:
            number += value > 0
            trace[-1].append(Event(number, value) if value > 0 else Event(-value, 0))
    return trace


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=Path, help="folder for the requests of every run")
    folder = parser.parse_args().keep
    print(
        f"{'model':16}{'batch':>6}{'tokens':>7}{'allocated':>11}{'simulated':>10}{'reserved':>10}{'simulated':>10}  MiB"
    )
    for run in RUNS:
        trace = traced(run)
        peaks = replay(trace)
        figures = f"{run.allocated:10.0f}{peaks.allocated / MIB:10.0f}{run.reserved:10.0f}{peaks.reserved / MIB:10.0f}"
        off = peaks.reserved / MIB / run.reserved - 1
        print(f"{run.model:16}{run.batch:6}{run.tokens:7}{figures} {off:+.1%}", flush=True)
        if folder:
            keep(trace, folder / f"{run.model}_b{run.batch}_t{run.tokens}.json.gz")


if __name__ == "__main__":
    main()
