"""The runs that are measured: which settings, in which order, on which rows."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Architecture, Lengths

STEPS = 20
MOST_STEPS = 300
LONG_ENOUGH_S = 10.0
"""A log's own clock has whole seconds: with so many of them its speed is known to a few percent."""
EVEN, UNEVEN = "even", "uneven"
_QUESTION = 12
_TEMPLATE_TOKENS = 25
"""What Llama 3's chat template adds to a row of bytes (12 tokens for the roles' names, the rest special tokens)."""


@dataclass(frozen=True)
class Point:
    """One run: its settings as a user would give them."""

    model: str
    batch: int = 4
    tokens: int = 512
    """`max_seq_len`; even rows are exactly so long."""
    rank: int = 8
    accumulation: int = 1
    mlp: bool = True
    """Adapters on q, v, output and the MLP; else on q and v."""
    packed: bool = False
    checkpointing: bool = False
    compile: bool = False
    rows: str = EVEN
    dtype: str = "bf16"
    steps: int = STEPS
    merged: bool = False
    """Save the merged model at the end, not the adapter alone."""
    edge: str = ""
    """`safe`: the largest batch that runplan would take; `97%`, `103%`: whose median peak is that part of the GPU."""

    @property
    def name(self) -> str:
        """Name of the run and of its row; settings that are the usual ones are not in it."""
        size = self.edge.replace("%", "pc") or f"b{self.batch}"
        rest = (
            f"x{self.accumulation}" * (self.accumulation > 1),
            f"_t{self.tokens}_r{self.rank}",
            "_attn" * (not self.mlp),
            "_packed" * self.packed,
            "_ac" * self.checkpointing,
            "_compile" * self.compile,
            "_uneven" * (self.rows == UNEVEN and not self.packed),
            "_merged" * self.merged,
            f"_{self.dtype}" * (self.dtype != "bf16"),
        )
        return f"{self.model}_{size}{''.join(rest)}"


def cpu_grid() -> list[Point]:
    """Some ten seconds each on one core: three tiny shapes, ranks, batches, lengths, accumulation, packing."""
    base = Point("tiny", dtype="fp32", tokens=128)
    wide, large = replace(base, model="tiny-wide"), replace(base, model="tiny-512")
    return [
        base,
        replace(wide, batch=8, tokens=256),
        replace(base, batch=16),
        replace(wide, batch=1, tokens=128),
        replace(base, batch=2, tokens=512, rank=64),
        replace(wide, batch=4, tokens=256, accumulation=2),
        replace(base, accumulation=4),
        replace(wide, batch=16, rows=UNEVEN),
        replace(base, batch=8, tokens=256, packed=True),
        replace(wide, batch=8, checkpointing=True),
        replace(base, batch=16, tokens=256, mlp=False),
        replace(wide, batch=2, rank=32, merged=True),
        replace(base, batch=2, tokens=512, checkpointing=True),
        replace(wide, batch=4, dtype="bf16"),
        replace(base, batch=8, rank=4),
        replace(wide, batch=4, rank=64),
        replace(base, batch=1, tokens=64),
        replace(base, batch=32),
        replace(base, batch=1, tokens=512, rank=16),
        replace(base, batch=2, accumulation=8),
        replace(base, batch=8, tokens=256, rows=UNEVEN),
        replace(wide, batch=2, tokens=512),
        replace(wide, batch=16, tokens=256),
        replace(wide, batch=1, accumulation=8),
        replace(wide, batch=4, mlp=False),
        replace(wide, batch=4, tokens=256, packed=True),
        replace(base, batch=8, dtype="bf16"),
        replace(large, batch=4),
        replace(large, batch=1),
        replace(large, batch=8, tokens=256),
        replace(large, batch=2, tokens=512, checkpointing=True),
        replace(large, batch=4, dtype="bf16"),
        replace(large, batch=2, accumulation=4),
    ]


def gpu_grid() -> list[Point]:
    """Every model at a short, a usual and a long batch first; then one setting after the other; then the edge."""
    p1, p3, p8 = Point("1B"), Point("3B"), Point("8B")
    small, half = Point("qwen2.5-0.5B"), Point("qwen2.5-1.5B")
    return [
        replace(p1, batch=8, tokens=1024, rank=64),
        replace(p1, batch=1, tokens=128, steps=60),
        replace(p3, batch=4, tokens=1024),
        replace(p8, batch=2, tokens=2048, checkpointing=True),
        replace(small, batch=8, tokens=1024),
        replace(p1, batch=16, tokens=2048, checkpointing=True),
        replace(p1, batch=8, tokens=2048, packed=True, rows=UNEVEN),
        replace(p1, batch=16, tokens=1024, rows=UNEVEN, steps=60),
        replace(p8, batch=1, tokens=256, steps=40),
        replace(half, batch=4, tokens=2048, checkpointing=True),
        replace(p3, batch=8, tokens=2048, checkpointing=True, rank=64),
        replace(p1, batch=4, tokens=512, accumulation=8, merged=True),
        replace(p8, batch=4, tokens=1024, merged=True),
        replace(p1, batch=8, tokens=2048, compile=True),
        replace(p3, batch=8, tokens=2048, packed=True, checkpointing=True, rows=UNEVEN),
        replace(p1, tokens=2048, edge="safe", steps=8),
        replace(p1, tokens=2048, edge="103%", steps=8),
        replace(p1, tokens=2048, edge="97%", steps=8),
        replace(small, batch=1, tokens=64, steps=60),
        replace(small, batch=16, tokens=2048, packed=True, checkpointing=True, rows=UNEVEN),
        replace(p1, batch=4, tokens=8192),
        replace(p1, batch=32, tokens=256, mlp=False),
        replace(p1, batch=64, tokens=1024, rows=UNEVEN, checkpointing=True, steps=40),
        replace(p3, batch=1, tokens=128, steps=60),
        replace(p3, batch=16, tokens=1024, rows=UNEVEN, steps=40),
        replace(p3, batch=4, tokens=512, accumulation=8),
        replace(p8, batch=8, tokens=2048, checkpointing=True, rank=64, steps=12),
        replace(p8, batch=2, tokens=2048, packed=True, checkpointing=True, rows=UNEVEN),
        replace(p8, batch=4, tokens=1024, mlp=False, accumulation=4, steps=10),
        replace(half, batch=8, tokens=1024, rank=64),
        replace(half, batch=8, tokens=1024, rows=UNEVEN, steps=40),
        replace(p3, tokens=2048, edge="safe", checkpointing=True, steps=8),
        replace(p3, tokens=2048, edge="103%", checkpointing=True, steps=8),
        replace(p8, tokens=2048, edge="safe", steps=8),
        replace(p8, tokens=2048, edge="103%", steps=8),
        replace(p8, tokens=2048, edge="97%", steps=8),
        replace(small, tokens=2048, edge="safe", steps=8),
        replace(p8, batch=4, tokens=2048, checkpointing=True, compile=True),
        replace(p1, batch=8, tokens=2048, packed=True, rows=UNEVEN, compile=True),
        replace(p1, tokens=4096, edge="safe", rows=UNEVEN, checkpointing=True, steps=20),
    ]


def made_whole(point: Point, shape: Architecture, gpu: Gpu) -> Point:
    """The point with the batch that its `edge` stands for on this GPU, and with as many steps as take a while."""
    if point.edge:
        return replace(point, batch=_edge_batch(point, shape, gpu))
    step_s = 1 / calibrated.size(workload(point, shape, gpu), calibrate([], {}, {})).it_per_s
    return replace(point, steps=max(point.steps, min(MOST_STEPS, round(LONG_ENOUGH_S / step_s))))


def workload(point: Point, shape: Architecture, gpu: Gpu) -> Workload:
    """A point as the estimators take it."""
    attention = ("q_proj", "v_proj", "output_proj") if point.mlp else ("q_proj", "v_proj")
    return Workload(
        trainer="torchtune",
        trainer_version="0.6.1",
        architecture=shape,
        adapter=Adapter(point.rank, attention, point.mlp),
        gpu=gpu,
        gpus=1,
        lengths=row_tokens(point),
        max_seq_len=point.tokens,
        packed=point.packed,
        dtype=point.dtype,
        activation_checkpointing=point.checkpointing,
        compile=point.compile,
        epochs=1,
        effective_batch_size=point.batch * point.accumulation,
        batch_size=point.batch,
        gradient_accumulation_steps=point.accumulation,
        max_steps_per_epoch=point.steps,
        save_adapter_weights_only=not point.merged,
        model_name=point.model,
        dataset=f"{dataset_name(point)}.json",
    )


def _edge_batch(point: Point, shape: Architecture, gpu: Gpu) -> int:
    # The longest row decides, and how long that is in a file depends on how many rows it has.
    work = replace(workload(replace(point, rows=EVEN), shape, gpu), batch_size=1)
    nothing = calibrate([], {}, {})
    if point.edge == "safe":
        return max(1, calibrated.largest_batch(work, nothing))
    limit = float(point.edge.rstrip("%")) / 100 * gpu.memory_gib
    batch = 1
    while calibrated.needed(work, nothing, batch + 1, 1).p50 <= limit:
        batch += 1
    return batch if limit < gpu.memory_gib else batch + 1


def answer_lengths(point: Point) -> list[int]:
    """Bytes of every row's answer: enough rows for the point's steps, the same for the same settings."""
    needed = point.batch * point.accumulation * point.steps
    if point.packed:
        needed = 1 + needed * 4 * point.tokens // 1000 + point.batch
    if point.rows == EVEN and not point.packed:
        return [point.tokens] * needed
    rng = random.Random(point.tokens)
    return [_length(rng, point.tokens) for _ in range(needed)]


def row_tokens(point: Point) -> Lengths:
    """Tokens of every row, template and question included, cut to the point's length."""
    counts: dict[int, int] = {}
    for length in answer_lengths(point):
        tokens = min(point.tokens, length + _QUESTION + _TEMPLATE_TOKENS)
        counts[tokens] = counts.get(tokens, 0) + 1
    return Lengths(tuple(sorted(counts.items())))


def dataset_name(point: Point) -> str:
    """Rows of one distribution have one name, however many there are of them."""
    if point.packed:
        return f"packed_{point.tokens}"
    return f"{point.rows}_{point.tokens}"


def write_rows(folder: Path, point: Point) -> Path:
    """The dataset of a point. Bytes are tokens."""
    lengths = answer_lengths(point)
    path = folder / str(len(lengths)) / f"{dataset_name(point)}.json"
    if path.exists():
        return path
    rng = random.Random(point.tokens)
    rows = [{"input": _words(rng, _QUESTION), "output": _words(rng, length)} for length in lengths]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"train": rows, "validation": rows[:2], "test": rows[:2]}), encoding="utf-8")
    return path


def _length(rng: random.Random, most: int) -> int:
    """Log-normal lengths as instruction data have them, few of them cut."""
    return max(8, min(most, round(rng.lognormvariate(0.0, 0.8) * min(250.0, most / 4))))


def _words(rng: random.Random, length: int) -> str:
    text = ""
    while len(text) < length:
        text += "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(2, 9))) + " "
    return text[:length]
