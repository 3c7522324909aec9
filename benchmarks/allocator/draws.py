"""Random but legal settings of a training run, to try the closed forms of memory on.

Shapes are those of families that torchtune and transformers know, cut to few layers (every layer is alike, and one
simulated layer takes as long as the next), with sizes between and beside those of published models.
"""

from __future__ import annotations

import random
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

import runplan
from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import ATTENTION, quantised_shapes
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.trainers.builders import builder_problems

FAMILIES = ("llama2", "llama3_1", "llama3_2", "mistral", "qwen2_5")
OF_TRL = (*FAMILIES, "qwen3")
"""Of those torchtune has no Qwen3."""
GPU = Gpu("a100-80", 79.15, 2039.0, 312.0, 19.5)
MOST_TOKENS = 40_000
"""A batch longer than this tells no more."""


class Draw(NamedTuple):
    """A run, and the batch whose peak is asked for."""

    workload: Workload
    batch: int
    tokens: int
    accumulation: int

    def __str__(self) -> str:
        w, a, b = self.workload, self.workload.architecture, self.workload.adapter
        shape = f"{a.family} {a.hidden_size}/{a.num_hidden_layers}/{a.num_attention_heads}:{a.num_key_value_heads}"
        shape += f"/{a.intermediate_size}/{a.vocab_size}/{a.max_position_embeddings}{' tied' * a.tie_word_embeddings}"
        names = [name[:2] for name in b.attn_modules] + ["mlp"] * b.apply_to_mlp + ["head"] * b.apply_to_output
        where = f" on {w.gpus} GPUs" * (w.gpus > 1) + " offloaded" * w.activation_offloading
        kind = " DoRA" * b.use_dora + " QLoRA" * b.quantize_base + " dropout" * (b.dropout > 0)
        mode = " packed" * w.packed + " recomputed" * w.activation_checkpointing + f" chunks {w.loss_chunks}"
        return (
            f"{shape}, {self.batch} x {self.tokens} x{self.accumulation} {w.dtype}{mode}, "
            f"r{b.rank} {'+'.join(names)}{kind}{where}"
        )


def draw(rng: random.Random, trainer: str = "torchtune", layers: int = 4) -> Draw:
    """A setting that runplan's configuration lets a user choose, for a model of at most so many layers."""
    a = _architecture(rng, layers, OF_TRL if trainer == "trl" else FAMILIES)
    adapter = _adapter(rng, trainer)
    if nf4.problem(quantised_shapes(a, adapter), 1):
        adapter = replace(adapter, quantize_base=False)
    if a.family in {"llama3_2", "qwen2_5"}:  # whose builders refuse it, as far as the head is tied
        adapter = replace(adapter, apply_to_output=False)
    batch, tokens = _batch(rng)
    dtype = rng.choice(("bf16", "bf16", "bf16", "fp32"))
    accumulation = rng.choice((1, 1, 2))
    version = {"torchtune": "0.6.1", "trl": "1.16.0"}[trainer]
    w = Workload(
        trainer=trainer, trainer_version=version, architecture=a, adapter=adapter, gpu=GPU, gpus=1,
        lengths=Lengths(((tokens, 100),)), max_seq_len=tokens, packed=rng.random() < 0.3, dtype=dtype,
        activation_checkpointing=rng.random() < 0.5, compile=False, epochs=1, effective_batch_size=batch * accumulation,
    )  # fmt: skip
    return Draw(w, batch, tokens, accumulation)


def draw_wide(rng: random.Random, layers: int = 3) -> Draw:
    """A setting of torchtune on one GPU from all that can be asked for: shapes that ship, and narrow ones; any loss."""
    one = draw(rng, layers=layers)
    shapes = [shape for shape in published(layers) if not builder_problems(shape)]
    a = rng.choice(shapes) if rng.random() < 0.5 else _narrow(rng, one.workload.architecture)
    adapter = replace(one.workload.adapter, apply_to_output=rng.random() < 0.3 and not a.tie_word_embeddings)
    if nf4.problem(quantised_shapes(a, adapter), 1):
        adapter = replace(adapter, quantize_base=False)
    offloaded = one.workload.activation_checkpointing and rng.random() < 0.3
    w = replace(
        one.workload, architecture=a, adapter=adapter, activation_offloading=offloaded,
        loss_chunks=rng.choice((8, 8, 8, 0)),
    )  # fmt: skip
    batch, tokens = (rng.choice((1, 2, 5)), rng.randint(1, 20)) if rng.random() < 0.2 else (one.batch, one.tokens)
    return Draw(w, batch, min(tokens, a.max_position_embeddings), one.accumulation)


@cache
def published(layers: int) -> tuple[Architecture, ...]:
    """The models that runplan ships, cut to so many layers."""
    names = {field.name for field in fields(Architecture)}
    files = sorted((Path(runplan.__file__).parents[1] / "conf" / "model").glob("*.yaml"))
    read = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
    given = [{key: value for key, value in one.items() if key in names} for one in read if one["hidden_size"]]
    return tuple(Architecture(**one | {"num_hidden_layers": min(one["num_hidden_layers"], layers)}) for one in given)


def _narrow(rng: random.Random, a: Architecture) -> Architecture:
    """The same family, as narrow as models for tests are."""
    heads, width = rng.choice((1, 2, 4, 8)), rng.choice((16, 32, 64))
    key_values = rng.choice([n for n in (1, 2, 4, 8) if heads % n == 0])
    hidden = heads * width
    tied = a.tie_word_embeddings or (a.family in {"llama2", "llama3_1"} and rng.random() < 0.3)
    return replace(
        a, tie_word_embeddings=tied, hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=key_values,
        head_dim=width, intermediate_size=8 * round(hidden * rng.uniform(1.0, 6.0) / 8),
        vocab_size=rng.choice((512, 4096, 32000)), max_position_embeddings=rng.choice((2048, 8192)),
    )  # fmt: skip


def draw_shared(rng: random.Random, layers: int = 4) -> Draw:
    """A setting of torchtune for several GPUs, or with activations offloaded, or both."""
    one = draw(rng, layers=layers)
    w, adapter = one.workload, one.workload.adapter
    gpus, offloaded = rng.choice((1, 2, 2, 3, 4, 8)), rng.random() < 0.3
    offloaded |= gpus == 1
    split = not nf4.problem(quantised_shapes(w.architecture, adapter), gpus) and not adapter.use_dora
    if gpus > 1 and not split:  # which no GPUs can share
        adapter = replace(adapter, quantize_base=False)
    recomputed = w.activation_checkpointing or offloaded
    w = replace(
        w, adapter=adapter, gpus=gpus, activation_offloading=offloaded, activation_checkpointing=recomputed,
        effective_batch_size=w.effective_batch_size * gpus,
    )  # fmt: skip
    return one._replace(workload=w)


def draw_trl(rng: random.Random, layers: int = 4) -> Draw:
    """A setting of TRL's: a training step, or a batch that is validated."""
    one = draw(rng, "trl", layers)
    return with_validation(one) if rng.random() < 0.3 else one


def with_validation(one: Draw) -> Draw:
    """The same, its batch validated."""
    return one._replace(workload=replace(one.workload, validation_lengths=Lengths(((one.tokens, 100),))))


def draw_validated(rng: random.Random, layers: int = 4) -> Draw:
    """A setting whose batch is validated: on one GPU or on several."""
    one = (draw_shared if rng.random() < 0.5 else draw)(rng, layers=layers)
    return with_validation(one)


def _architecture(rng: random.Random, layers: int, families: tuple[str, ...]) -> Architecture:
    family = rng.choice(families)
    key_values = rng.choice((1, 2, 4, 8))
    heads = key_values * rng.choice((1, 1, 2, 4, 7))
    head_dim = rng.choice((64, 80, 96, 128, 128))
    while heads * head_dim > 8192:
        heads //= 2
    while heads * head_dim < 512:
        heads *= 2
    hidden = heads * head_dim
    key_values = rng.choice([n for n in (1, 2, 4, 8, heads) if heads % n == 0])
    if family == "qwen3":  # whose heads are together narrower than the rest, or wider
        hidden = 64 * round(hidden * rng.uniform(0.4, 1.4) / 64)
    return Architecture(
        family, hidden, rng.randint(2, layers), heads, key_values, head_dim,
        intermediate_size=64 * round(hidden * rng.uniform(1.0, 6.0) / 64),
        vocab_size=rng.choice((32000, 32001, 49152, 100_277, 128_256, 128_257, 151_665, 152_064)),
        max_position_embeddings=rng.choice((8192, 32768)),
        tie_word_embeddings=family in {"llama3_2", "qwen2_5", "qwen3"} and rng.random() < 0.7,
        attention_bias=family == "qwen2_5",
        sliding_window=4096 if family == "mistral" and rng.random() < 0.5 else None,
    )  # fmt: skip


def _adapter(rng: random.Random, trainer: str) -> Adapter:
    attention = tuple(name for name in ATTENTION if rng.random() < 0.6)
    mlp = rng.random() < 0.6
    output = trainer == "torchtune" and rng.random() < 0.15
    if not attention and not (mlp and trainer == "trl"):
        attention = ("q_proj", "v_proj")
    kind = rng.random() if trainer == "torchtune" else 1.0
    return Adapter(
        rank=rng.choice((1, 2, 4, 8, 16, 32, 64, 128, 256, 512)),
        attn_modules=attention, apply_to_mlp=mlp, apply_to_output=output,
        use_dora=kind < 0.15, quantize_base=0.1 < kind < 0.3, dropout=rng.choice((0.0, 0.0, 0.0, 0.1)),
    )  # fmt: skip


def _batch(rng: random.Random) -> tuple[int, int]:
    """Sequences and their length: of any scale, round or not, and not too many tokens in all."""
    while True:
        tokens = rng.choice((round(2 ** rng.uniform(0, 13)), 2 ** rng.randint(5, 13)))
        batch = rng.choice((1, 2, 3, 4, 8, 16, 64))
        if tokens * batch <= MOST_TOKENS:
            return batch, tokens
