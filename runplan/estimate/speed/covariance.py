"""Covariances of step times between runs: through the constants of their GPUs, and through the shape of the runs."""

from __future__ import annotations

import math
from typing import NamedTuple

from runplan.estimate.speed.gpu_constants import SPREAD_OWN, SPREAD_SHARED, Constants
from runplan.estimate.speed.processor import cores
from runplan.estimate.speed.roofline import compiled_part
from runplan.estimate.speed.step import Step
from runplan.estimate.speed.work import unpacked_part
from runplan.estimate.workload import Gpu

SHAPE_OWN, SHAPE_SHARED, SHAPE_PROCESSOR = 0.065, 0.055, 0.06
"""What the physics gets wrong for a shape of run: on one GPU type, on all alike, and on processors (standard
deviations)."""
LAUNCHES_CHECKPOINTED, LAUNCHES_SHARDED, LINKS = 0.25, 0.35, 0.30
"""How uncertain the launches are that checkpointing adds, the hooks of several GPUs, and what links between GPUs carry
(standard deviations of their logarithm): measured without a GPU; 1.3 and 4.8 layers a layer in published runs; PCIe of
other generations, and GPUs behind one switch."""
UNPACKING = 0.7
"""How uncertain the time is that QLoRA's unpacking takes (standard deviation of its logarithm): published pairs of
rows leave 0.6 and 2.1 times what is reckoned."""
NARROW, USUAL_WIDTH = 0.25, 4096
"""How uncertain it is what products of narrower or wider models reach: standard deviation for a factor of e in width,
from that of the models that taught most constants. One product alone reaches 6 % less on an H100 where 2048 numbers are
summed than where 4096 are (XLA's table of products), and layers have small ones, too."""
CORRELATION = 1.2
"""Runs of one kind are alike as far as their tokens, or parameters, differ by less than a factor of e to this power."""
_MODE_WEIGHTS = (1.0, 1.0, 4.0, 1.0, 4.0, 1.0, 4.0)
"""How far apart runs are that differ in checkpointing, packing, compiling, number of GPUs, number format, 4 bits and
trainer."""
MACHINE = 0.25
"""How far processors differ from each other in all that they do (standard deviation): clocks, generations, neighbours.
The 16 runs of one core took 1.36 times as long on a machine that others used, give or take 14 %."""
CORES = 0.15
"""How uncertain it is what more cores bring: standard deviation of the power of their number, known for two."""
COMPILING = 0.5
"""How uncertain the time is that products of new lengths take to compile (standard deviation of its logarithm): half to
nearly all of what is reckoned, by width and adapters."""
_PROCESSOR = 0.1
"""Constants of processors differ from each other by so much of the variance of GPUs, beside that."""


def spreads(a: Gpu, b: Gpu) -> tuple[tuple[float, float], ...]:
    """Prior covariance of every constant between two GPU types: (shared, own)."""
    same = 1.0 if a.name == b.name else 0.0
    wide = _PROCESSOR if a.name == "cpu" and b.name == "cpu" else 1.0
    alike = 0.0 if (a.name == "cpu") != (b.name == "cpu") else 1.0
    return tuple(
        (wide * alike * shared * shared, wide * same * own * own)
        for shared, own in zip(SPREAD_SHARED, SPREAD_OWN, strict=True)
    )


def weighted(row: Constants, gpu: Gpu, other: Gpu) -> Constants:
    """A slope times the prior covariance of the constants of two GPU types."""
    return Constants(*(a * (shared + own) for a, (shared, own) in zip(row, spreads(gpu, other), strict=True)))


def linear_covariance(row: Constants, gpu: Gpu, other: Constants, other_gpu: Gpu) -> float:
    """Covariance of two runs' step times through the constants of their GPUs."""
    return sum(a * b for a, b in zip(weighted(row, gpu, other_gpu), other, strict=True))


class Shape(NamedTuple):
    """What makes runs alike."""

    gpu: str
    tokens: float
    params: float
    mode: tuple[bool, bool, bool, int, str, bool, str]
    checkpointed: float
    """Error of its step's time from launches that checkpointing adds."""
    sharded: float
    """The same from several GPUs."""
    unpacked: float = 0.0
    """The same from unpacking weights in 4 bits."""
    woken: float = 0.0
    """The same from cores beside the first."""
    compiled: float = 0.0
    """The same from compiling products of new lengths."""
    narrow: float = 0.0
    """The same from the width of the model, on one GPU type."""


def shape_of(step: Step, slope: Constants) -> Shape:
    """What makes a step like others; distances in units of a correlation length."""
    return Shape(
        step.gpu.name,
        math.log(max(1.0, step.batch * step.tokens)) / CORRELATION,
        math.log(step.architecture.params) / CORRELATION,
        (
            *(step.checkpointing, step.packed, step.compile, step.gpus),
            *(step.dtype, step.adapter.quantize_base, step.trainer),
        ),
        LAUNCHES_CHECKPOINTED * slope.layer_s if step.checkpointing else 0.0,
        math.hypot(LAUNCHES_SHARDED * slope.layer_s, LINKS * _gathering(slope)) if step.gpus > 1 else 0.0,
        UNPACKING * -slope.bandwidth * unpacked_part(step) if step.adapter.quantize_base else 0.0,
        CORES * math.log(cores(step.gpu)),
        COMPILING * compiled_part(step) if step.varied else 0.0,
        NARROW * -slope.flops * math.log(step.architecture.hidden_size / USUAL_WIDTH)
        if step.gpu.name != "cpu"
        else 0.0,
    )


def _gathering(slope: Constants) -> float:
    """The part of a step that none of a GPU's constants decides: waiting for the weights that others hold."""
    return max(0.0, 1 + slope.flops + slope.bandwidth - slope.layer_s - slope.host_s)


def shape_covariance(a: Shape, b: Shape) -> float:
    """Covariance of the physics' own error between two runs: the more alike in shape, the higher."""
    same_gpu = a.gpu == b.gpu
    if not same_gpu and "cpu" in {a.gpu, b.gpu}:
        return 0.0
    tokens, size = a.tokens - b.tokens, a.params - b.params
    distance = tokens * tokens + size * size
    if a.mode != b.mode:
        differ = [x != y for x, y in zip(a.mode, b.mode, strict=True)]
        distance += sum(weight for weight, other in zip(_MODE_WEIGHTS, differ, strict=True) if other)
    parts = a.checkpointed * b.checkpointed + a.sharded * b.sharded + a.unpacked * b.unpacked + a.compiled * b.compiled
    parts += a.narrow * b.narrow * same_gpu
    alike = math.exp(-distance / 2)
    if a.gpu == "cpu":
        return parts + MACHINE**2 + a.woken * b.woken + alike * SHAPE_PROCESSOR**2
    return parts + alike * (SHAPE_SHARED**2 + (SHAPE_OWN**2 if same_gpu else 0.0))
