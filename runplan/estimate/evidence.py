"""Which logs stand behind an estimate, how similar they are, and whether it goes beyond them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from runplan.estimate.speed.gpu_constants import prior
from runplan.estimate.speed.observation import UNKNOWN_GPU, Observation, contradiction, same_dataset
from runplan.estimate.speed.posterior import Posterior
from runplan.estimate.speed.roofline import Task, step_s
from runplan.estimate.wall_time.outliers import Odd
from runplan.estimate.workload import Workload

MOST_ALIKE = 3
"""Logs that are described one by one; of the others it is said how many there are."""
FAR = 1.5
"""A log's step time is said to be odd when it is so many times longer or shorter than expected."""
MOST_FAR = 2
"""So many more are described that are less alike, but odd."""
MOST_LINES = 5
MOST_REASONS = 3


class Evidence(NamedTuple):
    """What is said about an estimate."""

    lines: tuple[str, ...]
    extrapolated: bool


SAME_DATASET_SIGMA, UNNAMED_DATASET_SIGMA, OTHER_DATASET_SIGMA = 0.05, 0.25, 0.7
"""Relative error of a length taken from the planned dataset: the log names the same one, names none, names another."""
UNNAMED_PART = 0.4
"""How far rows of an unnamed dataset may be others than the planned ones: a part of how far another one's are."""
LONGEST_USUAL = 2048
"""Tokens at which rows are usually cut, where a log does not say at how many."""
PADDED_OVER_TRAINED, PADDED_SIGMA = 1.6, 0.4
"""How many more tokens a padded sequence has than count in the loss, and the relative error of that: 1 without prompt
and padding, 2.5 where prompts are as long as answers and lengths differ (alpaca in batches of 4)."""
AGREES = 0.35
"""A length that the log's peak of memory tells may differ by so much (its logarithm) from that of the same dataset."""


def guessed(seen: Observation, tokens: float, dataset: str) -> Observation:
    """The same log with a length it does not state: that of the planned dataset, trusted if the log names the same."""
    sigma = UNNAMED_DATASET_SIGMA
    if seen.tokens_at_least and not same_dataset(seen.run, dataset):
        return _with_length(seen, *_of_trained(seen))
    open_ = UNNAMED_PART
    if dataset and seen.run.dataset:
        same = same_dataset(seen.run, dataset)
        sigma, open_ = (SAME_DATASET_SIGMA, 0.0) if same else (OTHER_DATASET_SIGMA, 1.0)
    seen = dataclasses.replace(seen, noise=math.hypot(seen.noise, open_ * _reach(seen, tokens) if open_ else 0.0))
    return _with_length(seen, tokens, sigma)


def _reach(seen: Observation, tokens: float) -> float:
    """How far a step's time is open when rows may be as long as the log allows: two standard deviations.

    Short rows take no time that depends on their length, long ones do: slopes at the short ones would hide that.
    """
    longest = max(tokens, float(seen.run.max_seq_len or LONGEST_USUAL))
    short, long = (dataclasses.replace(seen.task, tokens=n, span=n / 2) for n in (tokens, longest))
    constants = prior(seen.task.gpu)
    return math.log(step_s(long, constants) / step_s(short, constants)) / 2


def confirmed(seen: Observation, tokens: float) -> Observation:
    """The same log with its dataset's own length in place of what its peak of memory tells, where the two agree."""
    if abs(math.log(max(1.0, tokens) / max(1.0, seen.task.tokens))) > AGREES:
        return seen
    return _with_length(seen, tokens, SAME_DATASET_SIGMA)


def _of_trained(seen: Observation) -> tuple[float, float]:
    """Length and its relative error, from the tokens of a sequence that count in the loss."""
    least, most = seen.tokens_at_least, float(seen.run.max_seq_len or 0)
    length, sigma = PADDED_OVER_TRAINED * least, PADDED_SIGMA
    if least < most < PADDED_OVER_TRAINED * length:
        length, sigma = math.sqrt(least * most), max(SAME_DATASET_SIGMA, math.log(most / least) / 2)
    return length, sigma


def _with_length(seen: Observation, tokens: float, sigma: float) -> Observation:
    task = dataclasses.replace(seen.task, tokens=tokens, span=tokens / 2)
    outlier = contradiction(task, seen.seconds, sigma if seen.gpu_known else math.hypot(sigma, UNKNOWN_GPU))
    return dataclasses.replace(seen, task=task, tokens_sigma=sigma, outlier=outlier)


def of(
    w: Workload,
    task: Task,
    posterior: Posterior,
    odd: Sequence[Odd] = (),
    silent: Mapping[str, int] = MappingProxyType({}),
    started: int = 0,
) -> Evidence:
    """The most similar logs, what was left out and why, and where the estimate leaves the range of the logs.

    Args:
        w: what is planned.
        task: its optimizer step.
        posterior: what logs say about speed.
        odd: what logs say about memory and times beside the steps that cannot be.
        silent: why other logs say nothing about speed, and how many.
        started: how many logs say how long a start takes.
    """
    apart = dict(zip(map(id, posterior.used), posterior.surprises, strict=True))
    ranked = sorted(posterior.used, key=lambda seen: (_distance(task, seen), seen.run.path))
    far = [seen for seen in ranked[MOST_ALIKE:] if _is_far(apart[id(seen)])][:MOST_FAR]
    shown = [*ranked[:MOST_ALIKE], *far]
    lines = [
        f"{seen.run.path}: {_described(seen)}; {_similarity(task, seen)}{_apart(apart[id(seen)], posterior)}"
        for seen in shown
    ]
    told = set(map(id, shown))
    lines += _others(w, [seen for seen in ranked if id(seen) not in told])
    left_out = [f"{seen.run.path}: left out, {why}" for seen, why in posterior.outliers]
    left_out += [f"{one.path}: its {one.what} left out, {one.why}" for one in odd]
    lines += left_out[:MOST_LINES]
    if more := len(left_out) - MOST_LINES:
        lines += [f"{_logs(more)} more left out for such reasons"] if more > 0 else []
    if silent:
        reasons = sorted(silent.items(), key=lambda item: (-item[1], item[0]))
        said = "; ".join(f"{number} {why}" for why, number in reasons[:MOST_REASONS])
        rest = sum(number for _, number in reasons[MOST_REASONS:])
        lines.append(f"{_logs(sum(silent.values()))} without use for speed: {said}{f'; {rest} others' if rest else ''}")
    if not posterior.used:
        what = f" for speed, but the start-up is learnt from {_logs(started)}" if started else ""
        lines.append(f"no earlier log counts{what}: physics and public specifications alone, wide intervals")
        return Evidence(tuple(lines), extrapolated=True)
    beyond = _beyond(w, task, posterior.used)
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
    here = sum(seen.repeats for seen in rest if seen.gpu_known and seen.task.gpu.name == w.gpu.name)
    total = sum(seen.repeats for seen in rest)
    return [f"and {_logs(total)} as similar or less, {here} of them on {w.gpu.name}"]


def _logs(number: int) -> str:
    return f"{number} log{'s' * (number != 1)}"


def _described(seen: Observation) -> str:
    task = seen.task
    length = f"{task.tokens:.0f} tokens"
    if not seen.tokens_known:
        named = seen.tokens_sigma == SAME_DATASET_SIGMA
        other = seen.tokens_sigma == OTHER_DATASET_SIGMA
        unlike = " (another dataset)" if other else ""
        length += ", those of the same dataset" if named else f" assumed, length not stated{unlike}"
    steps = f", accumulation {task.accumulation}" if task.accumulation > 1 else ""
    where = seen.run.gpu if seen.gpu_known else "GPU not stated"
    steps += ", QLoRA" if task.adapter.quantize_base else ""
    more = f" (median of {seen.repeats} logs of this setting)" if seen.repeats > 1 else ""
    return f"{seen.run.model}, {where}, batch {task.batch} of {length}{steps}, {1 / seen.seconds:.3g} it/s{more}"


def _similarity(task: Task, seen: Observation) -> str:
    other = seen.task
    if other.trainer != task.trainer:
        return f"weak: {seen.run.trainer or other.trainer} runs other kernels than {task.trainer}"
    same_model = task.architecture == other.architecture
    if not seen.gpu_known:
        return "weak: the GPU is not known"
    if task.gpu.name != other.gpu.name:
        return f"weak: another GPU than {task.gpu.name}"
    if not same_model:
        return "same GPU, another model"
    if task.adapter.quantize_base != other.adapter.quantize_base:
        return f"same GPU and model, {'without' if task.adapter.quantize_base else 'with'} QLoRA's weights in 4 bits"
    return "very similar" if _distance(task, seen) < 0.7 else "same GPU and model, another batch or length"


def _distance(task: Task, seen: Observation) -> float:
    other = seen.task
    far = abs(math.log(max(1.0, task.batch * task.tokens) / max(1.0, other.batch * other.tokens)))
    far += abs(math.log(task.architecture.params / other.architecture.params))
    far += 0.5 * (task.packed != other.packed)
    far += 0.5 * (task.checkpointing != other.checkpointing) + (task.compile != other.compile)
    far += 1.0 * (task.adapter.quantize_base != other.adapter.quantize_base)
    far += 4.0 * (task.trainer != other.trainer)
    far += 4.0 * (task.gpu.name != other.gpu.name or not seen.gpu_known)
    return far + 0.5 * (not seen.tokens_known)


def _beyond(w: Workload, task: Task, used: Sequence[Observation]) -> list[str]:
    """In what the run leaves the range of the logs on its own GPU type."""
    same = [seen.task for seen in used if seen.gpu_known and seen.task.gpu.name == w.gpu.name]
    if not same:
        return [f"no log ran on {w.gpu.name}"]
    said = []
    if w.adapter.quantize_base and not any(other.adapter.quantize_base for other in same):
        said.append("QLoRA, no log has weights in 4 bits")
    sizes = [other.architecture.params / 1e9 for other in same]
    params = w.architecture.params / 1e9
    if not min(sizes) / 1.1 <= params <= max(sizes) * 1.1:
        said.append(f"{params:.2f} B parameters, logs have {_range(sizes, '.2f')} B")
    told = [seen for seen in used if seen.tokens_known or seen.tokens_sigma < OTHER_DATASET_SIGMA]
    lengths = [seen.task.tokens for seen in told if seen.gpu_known and seen.task.gpu.name == w.gpu.name]
    if not lengths:
        said.append("no log tells how long rows like these take")
    elif not min(lengths) / 2 <= task.tokens <= max(lengths) * 2:
        said.append(f"{task.tokens:.0f} tokens a sequence, logs have {_range(lengths, '.0f')}")
    batches = [float(other.batch) for other in same]
    if not min(batches) / 2 <= task.batch <= max(batches) * 2:
        said.append(f"batch {task.batch}, logs have {_range(batches, '.0f')}")
    return said


def _range(values: Sequence[float], form: str) -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
