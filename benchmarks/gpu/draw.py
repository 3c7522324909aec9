"""Settings drawn at random, to test what the grid's runs have taught: `measure.py --draw 20 --seed 1`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import NamedTuple

from grid import EVEN, UNEVEN, Point, workload

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.workload import Gpu
from runplan.facts import Architecture


class Space(NamedTuple):
    """What is drawn from, beside ranks, batches and what is on or off."""

    models: tuple[str, ...]
    lengths: tuple[int, ...]
    dtypes: tuple[str, ...]
    most: float
    """Parameters times tokens of a step: more would take too long."""


ON_CPU = Space(("tiny", "tiny-wide", "tiny-512"), (64, 128, 256, 512), ("bf16", "fp32"), 5e10)
ON_GPU = Space(("1B", "3B", "8B", "qwen2.5-0.5B", "qwen2.5-1.5B"), (128, 512, 1024, 2048, 4096), ("bf16",), 2e14)
BATCHES, RANKS, ACCUMULATIONS = (1, 2, 4, 8, 16, 32), (4, 8, 16, 32, 64), (1, 1, 1, 2, 4)


def draw(n: int, seed: int, gpu: Gpu, shapes: Mapping[str, Architecture]) -> list[Point]:
    """Settings that this machine does in some seconds a step, and whose memory is likely to fit; no two of one name."""
    space = ON_CPU if gpu.name == "cpu" else ON_GPU
    rng, found = random.Random(seed), dict[str, Point]()
    while len(found) < n:
        point = _any(rng, space)
        work = shapes[point.model].params * point.batch * point.accumulation * point.tokens
        if work <= space.most and (gpu.name == "cpu" or _fits(point, shapes[point.model], gpu)):
            found.setdefault(point.name, point)
    return list(found.values())


def _any(rng: random.Random, space: Space) -> Point:
    packed = rng.random() < 0.3
    return Point(
        rng.choice(space.models),
        batch=rng.choice(BATCHES),
        tokens=rng.choice(space.lengths),
        rank=rng.choice(RANKS),
        accumulation=rng.choice(ACCUMULATIONS),
        mlp=rng.random() < 0.7,
        packed=packed,
        checkpointing=rng.random() < 0.4,
        rows=UNEVEN if packed or rng.random() < 0.5 else EVEN,
        dtype=rng.choice(space.dtypes),
        merged=rng.random() < 0.2,
    )


def _fits(point: Point, shape: Architecture, gpu: Gpu) -> bool:
    planned = workload(point, shape, gpu)
    return calibrated.needed(planned, calibrate([], {}, {}), point.batch, point.accumulation).p95 <= gpu.memory_gib
