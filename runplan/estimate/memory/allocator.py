"""What torch's caching allocator holds beyond what is allocated, and with how little it would do.

Both are parts of what every step allocates and frees; weights and optimizer stay where they are. The constants come
from benchmarks/allocator: the requests of torchtune's own steps on fake tensors, replayed through the allocator's
algorithm, 100 rows in tests/data/allocator.csv. The same simulation gives the reserved memory of fitcheck's LoRA runs
on a T4 within 1.1 %, most to the MiB.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from runplan.estimate.steps import padded_length
from runplan.facts import Lengths

EVEN, EVEN_CHECKPOINTED = 0.08, 0.24
"""Steps of one size: blocks fit what is asked for next, but for logits beside recomputed layers."""
UNEVEN, UNEVEN_CHECKPOINTED = 0.55, 1.4
"""Steps of many sizes: a block of the last longest batch does not hold a slightly longer one. It is the order of the
lengths that decides: 0.2 to 2.9 simulated; some 1.0 in milabench's runs of 8B on one H100, H200 or L40S."""
UNEVEN_LOGITS = 1.6
"""The same beside recomputed layers, in units of the longest batch's logits, where they are known: the largest blocks.
2.2 to 3.2 simulated, whatever the model; 1.0 to 2.0 in milabench's 30 steps of 8B on an H100, H200 or L40S that is not
full."""
ONE_SIZE = 0.02
"""How much longer the longest batch is than the usual one where steps begin to count as uneven."""
NEEDED, NEEDED_CHECKPOINTED = (0.06, 0.18), (0.11, 0.22)
"""For steps of one size and of many: what it cannot do without. Short of memory it gives back every segment that
nothing lies in, and asks again."""
SPREAD, NOISE = 0.45, 0.35
"""Standard deviations of the logarithm of what it holds: before any log, and from one run to the next."""
NEEDED_SPREAD, NEEDED_NOISE = 0.50, 0.30
"""The same of what it cannot do without."""
ROUNDED_UP = 0.01
"""What it holds more of weights and optimizer: 2.37 of 2.35, 6.27 of 6.21 GiB after init in logs."""


def held_part(checkpointing: bool, gpus: int, uneven: float, logits: float | None = None) -> float:
    """What it holds in vain after many steps, as a part of what a step allocates and frees.

    Args:
        checkpointing: whether activations are recomputed.
        gpus: GPUs of which the fullest is meant.
        uneven: 0 for steps of one size, 1 for all sizes (`unevenness`).
        logits: their part of what a step allocates and frees; None where the loss keeps none.
    """
    even = EVEN_CHECKPOINTED if checkpointing else EVEN
    most = UNEVEN_CHECKPOINTED if checkpointing else UNEVEN
    if checkpointing and logits is not None:
        most = logits * UNEVEN_LOGITS
    return even + max(0.0, most * most_of(gpus) - even) * uneven


def most_of(gpus: int) -> float:
    """How much more the fullest of several GPUs holds than one does: the median of the largest of so many.

    Each has batches of its own, in an order of its own. One run of 8B on four L40S: 24, 27, 26 and 32 GiB in use.
    """
    return math.exp(NOISE * NormalDist().inv_cdf(0.5 ** (1 / gpus)))


def needed_part(checkpointing: bool, uneven: float) -> float:
    """What it cannot do without, as a part of what a step allocates and frees."""
    even, all_sizes = NEEDED_CHECKPOINTED if checkpointing else NEEDED
    return even + (all_sizes - even) * uneven


def unevenness(lengths: Lengths, batch: int, packed: bool) -> float:
    """From 0 for steps of one size to 1 for steps of all sizes."""
    if packed or not lengths.rows:
        return 0.0
    above = lengths.longest / max(1.0, padded_length(lengths, batch)) - 1.0
    return 1.0 - math.exp(-above / ONE_SIZE)
