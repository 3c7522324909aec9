"""How long the batches of a log were that does not say: as long as the planned dataset's, or as what it trained on."""

from __future__ import annotations

import math
from dataclasses import replace

from runplan.estimate.logs.settings import same_dataset
from runplan.estimate.speed.gpu_constants import prior
from runplan.estimate.speed.observation import UNKNOWN_GPU, Observation, contradiction
from runplan.estimate.speed.roofline import step_s

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
    same = same_dataset(seen.run, dataset)
    seen = seen if same else _perhaps_varied(seen, tokens)
    if seen.tokens_at_least and not same:
        return _with_length(seen, *_of_trained(seen))
    open_ = UNNAMED_PART
    if dataset and seen.run.dataset:
        sigma, open_ = (SAME_DATASET_SIGMA, 0.0) if same else (OTHER_DATASET_SIGMA, 1.0)
    seen = replace(seen, noise=math.hypot(seen.noise, open_ * _reach(seen, tokens) if open_ else 0.0))
    return _with_length(seen, tokens, sigma)


def _perhaps_varied(seen: Observation, tokens: float) -> Observation:
    """The same log of rows that may all be of one length or all of another: half way, and as doubtful as that is."""
    step = replace(seen.step, tokens=tokens, span=tokens / 2)
    one, all_ = (step_s(replace(step, varied=part), prior(step.gpu)) for part in (0.0, 1.0))
    noise = math.hypot(seen.noise, math.log(all_ / one) / 2)
    return replace(seen, step=replace(seen.step, varied=0.5), noise=noise)


def _reach(seen: Observation, tokens: float) -> float:
    """How far a step's time is open when rows may be as long as the log allows: two standard deviations.

    Short rows take no time that depends on their length, long ones do: slopes at the short ones would hide that.
    """
    longest = max(tokens, float(seen.run.max_seq_len or LONGEST_USUAL))
    short, long = (replace(seen.step, tokens=n, span=n / 2) for n in (tokens, longest))
    constants = prior(seen.step.gpu)
    return math.log(step_s(long, constants) / step_s(short, constants)) / 2


def confirmed(seen: Observation, tokens: float) -> Observation:
    """The same log with its dataset's own length in place of what its peak of memory tells, where the two agree."""
    if abs(math.log(max(1.0, tokens) / max(1.0, seen.step.tokens))) > AGREES:
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
    step = replace(seen.step, tokens=tokens, span=tokens / 2)
    outlier = contradiction(step, seen.seconds, sigma if seen.gpu_known else math.hypot(sigma, UNKNOWN_GPU))
    return replace(seen, step=step, tokens_sigma=sigma, outlier=outlier)
