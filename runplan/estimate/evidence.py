"""Which logs stand behind an estimate, how similar they are, and whether it goes beyond them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from runplan.estimate.logs.figures import Odd
from runplan.estimate.speed.lengths import (
    OTHER_DATASET_SIGMA,
    SAME_DATASET_SIGMA,
)
from runplan.estimate.speed.observation import Observation
from runplan.estimate.speed.posterior import Posterior
from runplan.estimate.speed.step import Step
from runplan.estimate.workload import Workload
from runplan.units import number_of

MOST_ALIKE = 3
"""Logs that are described one by one; of the others it is said how many there are."""
FAR = 1.5
"""A log's step time is said to be odd when it is so many times longer or shorter than expected."""
MOST_FAR = 2
"""So many more are described that are less alike, but odd."""
MOST_LINES = 5
"""Logs that are left out and named one by one."""
SMALL = 1e8
"""Models of fewer parameters are told in millions."""
MOST_REASONS = 3
"""Reasons why logs say nothing about speed that are counted one by one."""
VERY_SIMILAR = 0.7
"""Distance of a log (`_distance`) below which it is called very similar."""


class Evidence(NamedTuple):
    """What is said about an estimate."""

    lines: tuple[str, ...]
    extrapolated: bool


def of(
    w: Workload,
    step: Step,
    posterior: Posterior,
    odd: Sequence[Odd] = (),
    silent: Mapping[str, int] = MappingProxyType({}),
    started: int = 0,
) -> Evidence:
    """The most similar logs, what was left out and why, and where the estimate leaves the range of the logs.

    Args:
        w: what is planned.
        step: its optimizer step.
        posterior: what logs say about speed.
        odd: what logs say about memory and times beside the steps that cannot be.
        silent: why other logs say nothing about speed, and how many.
        started: how many logs say how long a start takes.
    """
    apart = dict(zip(map(id, posterior.used), posterior.surprises, strict=True))
    ranked = sorted(posterior.used, key=lambda seen: (_distance(step, seen), seen.run.path))
    far = [seen for seen in ranked[MOST_ALIKE:] if _is_far(apart[id(seen)])][:MOST_FAR]
    shown = [*ranked[:MOST_ALIKE], *far]
    lines = [
        f"{seen.run.path}: {_described(seen)}; {_similarity(step, seen)}{_apart(apart[id(seen)], posterior)}"
        for seen in shown
    ]
    told = set(map(id, shown))
    lines += _others(w, [seen for seen in ranked if id(seen) not in told])
    left_out = [f"{seen.run.path}: left out, {why}" for seen, why in posterior.outliers]
    left_out += [f"{one.path}: its {one.what} left out, {one.why}" for one in odd]
    lines += left_out[:MOST_LINES]
    if more := len(left_out) - MOST_LINES:
        lines += [f"{number_of(more, 'log')} more left out for such reasons"] if more > 0 else []
    lines += _without_use(silent)
    if not posterior.used:
        what = f" for speed, but the start-up is learnt from {number_of(started, 'log')}" if started else ""
        lines.append(f"no earlier log counts{what}: physics and public specifications alone, wide intervals")
        return Evidence(tuple(lines), extrapolated=True)
    beyond = _beyond(w, step, posterior.used)
    if beyond:
        lines.append(f"extrapolates: {'; '.join(beyond)}")
    return Evidence(tuple(lines), bool(beyond))


def _is_far(error: float) -> bool:
    return abs(error) >= math.log(FAR)


def _apart(error: float, posterior: Posterior) -> str:
    """What to add about a log whose time is far from what is now expected of it."""
    if not _is_far(error):
        return ""
    against = "physics and the other logs imply" if len(posterior.used) > 1 else "physics implies"
    return f"; but {math.exp(error):.2g} times the step time that {against}, so the interval reaches further"


def _others(w: Workload, rest: Sequence[Observation]) -> list[str]:
    """One line about all logs that count beside the most similar ones."""
    if not rest:
        return []
    here = sum(seen.repeats for seen in rest if seen.gpu_known and seen.step.gpu.name == w.gpu.name)
    total = sum(seen.repeats for seen in rest)
    return [f"and {number_of(total, 'log')} as similar or less, {here} of them on {w.gpu.name}"]


def _described(seen: Observation) -> str:
    step = seen.step
    length = f"{step.tokens:.0f} tokens"
    if not seen.tokens_known:
        named = seen.tokens_sigma == SAME_DATASET_SIGMA
        other = seen.tokens_sigma == OTHER_DATASET_SIGMA
        unlike = " (another dataset)" if other else ""
        length += ", those of the same dataset" if named else f" assumed, length not stated{unlike}"
    steps = f", accumulation {step.accumulation}" if step.accumulation > 1 else ""
    where = seen.run.gpu if seen.gpu_known else "GPU not stated"
    steps += ", QLoRA" if step.adapter.quantize_base else ""
    more = f" (median of {seen.repeats} logs of this setting)" if seen.repeats > 1 else ""
    model = seen.run.model or "model not stated"
    return f"{model}, {where}, batch {step.batch} of {length}{steps}, {1 / seen.seconds:.3g} it/s{more}"


def _similarity(step: Step, seen: Observation) -> str:
    other, ran = seen.step, seen.run.trainer or seen.step.trainer
    weak = {
        f"{ran} runs other kernels than {step.trainer}": other.trainer != step.trainer,
        "the GPU is not known": not seen.gpu_known,
        f"another GPU than {step.gpu.name}": step.gpu.name != other.gpu.name,
    }
    if any(weak.values()):
        return f"weak: {next(why for why, holds in weak.items() if holds)}"
    differs = {
        f"but {ran} rather than {step.trainer}": ran != step.trainer,
        "another model": step.architecture != other.architecture,
    }
    if any(differs.values()):
        return f"same GPU, {next(how for how, holds in differs.items() if holds)}"
    if step.adapter.quantize_base != other.adapter.quantize_base:
        return f"same GPU and model, {'without' if step.adapter.quantize_base else 'with'} QLoRA's weights in 4 bits"
    return "very similar" if _distance(step, seen) < VERY_SIMILAR else "same GPU and model, another batch or length"


def _distance(step: Step, seen: Observation) -> float:
    """How unlike a log is: a factor of e in work or size counts 1, another GPU or other kernels 4, the rest between."""
    other = seen.step
    far = abs(math.log(max(1.0, step.batch * step.tokens) / max(1.0, other.batch * other.tokens)))
    far += abs(math.log(step.architecture.params / other.architecture.params))
    far += 0.5 * (step.packed != other.packed)
    far += 0.5 * (step.checkpointing != other.checkpointing) + (step.compile != other.compile)
    far += 1.0 * (step.adapter.quantize_base != other.adapter.quantize_base)
    far += 4.0 * (step.trainer != other.trainer) or 1.0 * (seen.run.trainer not in {None, step.trainer})
    far += 4.0 * (step.gpu.name != other.gpu.name or not seen.gpu_known)
    return far + 0.5 * (not seen.tokens_known)


def _without_use(silent: Mapping[str, int]) -> list[str]:
    """How many logs say nothing about speed, and why: the commonest reasons, with their numbers where there are two."""
    if not silent:
        return []
    reasons = sorted(silent.items(), key=lambda item: (-item[1], item[0]))
    told = [f"{number} {why}" for why, number in reasons[:MOST_REASONS]] if len(reasons) > 1 else [reasons[0][0]]
    rest = sum(number for _, number in reasons[MOST_REASONS:])
    told += [f"{rest} others"] if rest else []
    return [f"{number_of(sum(silent.values()), 'log')} without use for speed: {'; '.join(told)}"]


def _beyond(w: Workload, step: Step, used: Sequence[Observation]) -> list[str]:
    """In what the run leaves the range of the logs on its own GPU type."""
    same = [seen.step for seen in used if seen.gpu_known and seen.step.gpu.name == w.gpu.name]
    if not same:
        return [f"no log ran on {w.gpu.name}"]
    said = []
    if w.adapter.quantize_base and not any(other.adapter.quantize_base for other in same):
        said.append("QLoRA, no log has weights in 4 bits")
    params = w.architecture.params
    unit, name = (1e9, "B") if params >= SMALL else (1e6, "M")
    sizes = [other.architecture.params / unit for other in same]
    if not min(sizes) / 1.1 <= params / unit <= max(sizes) * 1.1:
        said.append(f"{params / unit:.3g} {name} parameters, logs have {_range(sizes, '.3g')} {name}")
    told = [seen for seen in used if seen.tokens_known or seen.tokens_sigma < OTHER_DATASET_SIGMA]
    lengths = [seen.step.tokens for seen in told if seen.gpu_known and seen.step.gpu.name == w.gpu.name]
    if not lengths:
        said.append("no log tells how long rows like these take")
    elif not min(lengths) / 2 <= step.tokens <= max(lengths) * 2:
        said.append(f"{step.tokens:.0f} tokens a sequence, logs have {_range(lengths, '.0f')}")
    batches = [float(other.batch) for other in same]
    if not min(batches) / 2 <= step.batch <= max(batches) * 2:
        said.append(f"batch {step.batch}, logs have {_range(batches, '.0f')}")
    return said


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
