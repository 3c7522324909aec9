"""How many optimizer steps a run takes and how long its padded batches are."""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from runplan.estimate.workload import TRL
from runplan.facts import Lengths

_MAPPED = 1000
"""Rows that `datasets` hands on at a time."""
_SAMPLE = 4096
"""Rows that are packed on trial; the waste of a pack settles within hundreds."""
KEPT_LENGTHS = 16
"""Of batches, that a processor's library keeps compiled products for: oneDNN has room for 1024 products and what
prepares their operands, some 60 a length."""
PADDED_BATCHES = (1, 2, 4, 8, 16, 32, 64)
"""Rows of the batches whose padded lengths a job script notes."""
VALIDATIONS_PER_EPOCH = 10
"""Where none were asked for."""


@dataclass(frozen=True)
class Steps:
    """Work of one GPU."""

    batches_per_epoch: int
    """Forward and backward passes, those of a last incomplete accumulation included: trainers run them, too."""
    per_epoch: int
    """Optimizer steps."""

    def total(self, epochs: int) -> int:
        """Optimizer steps of the whole run."""
        return self.per_epoch * epochs


@lru_cache(maxsize=512)
def packed_rows(lengths: Lengths, max_seq_len: int) -> int:
    """Sequences that packing makes of the rows; exact when all rows have one length.

    torchtune's PackedDataset fills a pack in file order and closes it at the first row that does not fit. The order is
    not in a histogram, so a pack's waste is taken from packing rows in a random (but always the same) order.
    """
    lengths = lengths.cut(max_seq_len)
    if not lengths.rows:
        return 0
    if len(lengths.counts) == 1:
        return math.ceil(lengths.rows / max(1, max_seq_len // max(1, lengths.longest)))
    sample = lengths.first(min(lengths.rows, _SAMPLE))
    order = [tokens for tokens, rows in sample.counts for _ in range(rows)]
    random.Random(0).shuffle(order)  # noqa: S311 - the same order every time is what is wanted
    packs, fill = 1, 0
    for tokens in order:
        if fill + tokens > max_seq_len:
            packs += 1
            fill = 0
        fill += tokens
    if lengths.rows <= _SAMPLE:
        return packs
    # The last pack is half empty on average: leave it out of what is scaled up.
    per_token = (packs - 0.5) / sum(order)
    return max(1, round(lengths.tokens * per_token + 0.5))


@lru_cache(maxsize=512)
def best_fit_rows(lengths: Lengths, max_seq_len: int) -> int:
    """Sequences that TRL's packing makes of the rows: of every thousand, longest first, each where least room is left.

    `_pack_bfd` in trl/data_utils.py 1.16.0, mapped over a thousand rows at a time by `datasets`. The order of the file
    is not in a histogram; a random one is taken, always the same.
    """
    lengths = lengths.cut(max_seq_len)
    sample = lengths.first(min(lengths.rows, _SAMPLE))
    order = [tokens for tokens, rows in sample.counts for _ in range(rows)]
    random.Random(0).shuffle(order)  # noqa: S311 - the same order every time is what is wanted
    packs = sum(_best_fit(order[at : at + _MAPPED], max_seq_len) for at in range(0, len(order), _MAPPED))
    return max(1, round(packs * lengths.rows / len(order))) if order else 0


def _best_fit(tokens: Iterable[int], room: int) -> int:
    """Bins that best fit decreasing fills."""
    left: list[int] = []  # of every bin, sorted
    bins = 0
    for length in sorted(tokens, reverse=True):
        at = bisect_left(left, length)
        if at < len(left):
            rest = left.pop(at) - length
        else:
            bins += 1
            rest = room - length
        insort(left, rest)
    return bins


def sequences(lengths: Lengths, max_seq_len: int, packed: bool, trainer: str = "torchtune") -> int:
    """Sequences an epoch trains on: rows, or packs of rows."""
    if not packed:
        return lengths.rows
    return best_fit_rows(lengths, max_seq_len) if trainer == TRL else packed_rows(lengths, max_seq_len)


def optimizer_steps(
    rows: int,
    batch: int,
    gpus: int = 1,
    accumulation: int = 1,
    max_steps_per_epoch: int | None = None,
    trainer: str = "torchtune",
) -> Steps:
    """Batches and optimizer steps of one epoch as torchtune 0.6.1 counts them, or TRL 1.16.0.

    torchtune's sampler hands every GPU ⌈rows/gpus⌉ rows, the loader drops an incomplete last batch, and a last
    incomplete accumulation is computed but belongs to no step (recipes/lora_finetune_single_device.py, `train`). TRL
    drops nothing: an incomplete batch is a batch, an incomplete accumulation a step (`num_update_steps_per_epoch` in
    transformers/trainer.py, `BatchSamplerShard` in accelerate).

    Args:
        rows: sequences (rows or packs) of the training split.
        batch: sequences a GPU processes at once.
        gpus: GPUs that share the rows.
        accumulation: batches an optimizer step.
        max_steps_per_epoch: the trainer's own limit.
        trainer: by its name.
    """
    whole = trainer == TRL
    batches = -(-rows // (gpus * batch)) if whole else -(-rows // gpus) // batch
    steps = -(-batches // accumulation) if whole else batches // accumulation
    if max_steps_per_epoch is not None and max_steps_per_epoch <= steps:
        return Steps(max_steps_per_epoch * accumulation, max_steps_per_epoch)
    return Steps(batches, steps)


@lru_cache(maxsize=4096)
def padded_length(lengths: Lengths, batch: int) -> float:
    """Mean length that a batch is padded to: the expected longest of `batch` rows drawn at random.

    torchtune pads to the longest row of the batch, to no multiple (`padded_collate_sft`).
    """
    seen, below, mean = 0, 0.0, 0.0
    for tokens, rows in lengths.counts:
        seen += rows
        upto = (seen / lengths.rows) ** batch
        mean += tokens * (upto - below)
        below = upto
    return mean


def padded_lengths(lengths: Lengths) -> tuple[float, ...]:
    """Mean tokens of a row in batches of `PADDED_BATCHES` rows, padding included; none where nobody counted them."""
    if not (lengths.rows and lengths.measured):
        return ()
    return tuple(round(padded_length(lengths, batch), 1) for batch in PADDED_BATCHES)


def padded_between(padded: Sequence[float], batch: int) -> float:
    """Mean tokens of a row in batches of any size, from those of `PADDED_BATCHES`: a line between two of them.

    >>> padded_between((10.0, 14.0, 18.0, 20.0, 22.0, 23.0, 24.0), 3)
    16.3
    """
    place = min(math.log2(batch), len(padded) - 1)
    low = min(int(place), len(padded) - 2)
    return round(padded[low] + (padded[low + 1] - padded[low]) * (place - low), 1)


@lru_cache(maxsize=1024)
def new_lengths(lengths: Lengths, batch: int, batches: int) -> float:
    """Part of a run's batches whose padded length is new, or was not met lately, to a library that keeps compiled code.

    Args:
        lengths: of the rows.
        batch: rows a batch.
        batches: of the whole run.
    """
    seen, below, often = 0, 0.0, []
    for _, rows in lengths.counts:
        seen += rows
        upto = (seen / lengths.rows) ** batch
        often.append(upto - below)
        below = upto
    return new_part(often, batches)


def new_part(often: Sequence[float], batches: int) -> float:
    """Part of draws that were not drawn before, or not lately, of things that are drawn so often.

    What was drawn last stays; how long, is such that `KEPT_LENGTHS` stay on average (Che, Tung and Wang 2002,
    "Hierarchical web caching systems"), or to the end of so many draws.
    """
    low, high = 0.0, float(max(1, batches))
    for _ in range(20):
        middle = (low + high) / 2
        held = sum(1 - math.pow(1 - part, middle) for part in often)
        low, high = (middle, high) if held < KEPT_LENGTHS else (low, middle)
    if high >= batches:
        return sum(1 - math.pow(1 - part, batches) for part in often) / max(1, batches)
    return sum((part * math.pow(1 - part, low) for part in often), 0.0)


def new_of_range(distinct: float, batches: int) -> float:
    """The same of batches of so many lengths, each as often as the others."""
    return new_part((1 / distinct,) * max(1, round(distinct)), batches)


def longest_sequence(lengths: Lengths, max_seq_len: int, packed: bool) -> int:
    """Tokens of the longest batch's sequences: what has to fit the GPU."""
    return max_seq_len if packed else max(1, min(lengths.longest, max_seq_len))


def choose_packed(
    lengths: Lengths, max_seq_len: int, effective_batch_size: int, epochs: int, minimum_steps: int, gpus: int = 1
) -> tuple[bool, str]:
    """Whether to pack (`packed=auto`), and why: yes, unless it leaves fewer than `minimum_steps` optimizer steps."""
    if not lengths.rows:
        return False, "off: the rows of the dataset are not known"
    packs = packed_rows(lengths, max_seq_len)
    rows_a_gpu = max(1, effective_batch_size // gpus)
    packed = optimizer_steps(packs, rows_a_gpu, gpus).total(epochs)
    plain = optimizer_steps(lengths.rows, rows_a_gpu, gpus).total(epochs)
    if packed < minimum_steps:
        return False, (
            f"off: {packs:,} packs of {max_seq_len} tokens would leave {_steps(packed)}, fewer than "
            f"{minimum_steps} (unpacked: {plain:,})"
        )
    return True, f"on: {lengths.rows:,} rows make {packs:,} packs of {max_seq_len} tokens, {_steps(packed)}"


def _steps(number: int) -> str:
    return f"{number:,} optimizer step{'s' * (number != 1)}"


def validation_interval(steps_per_epoch: int) -> int:
    """Optimizer steps between two validations where none were asked for: ten an epoch, fewer of a short one."""
    return max(1, -(-steps_per_epoch // VALIDATIONS_PER_EPOCH))
