"""Tokens a second as torchtune's logger says them: with padding up to version 0.3, afterwards those of the loss."""

from __future__ import annotations

import re
import struct

_RATE = re.compile(rb"tokens_per_second_per_gpu:(\d+\.?\d*(?:e[+-]?\d+)?)")
_RATES_BYTES = 1 << 14
"""Text in which they are looked for, from the first: some dozens of steps."""
_COLD = 5
_LARGEST = 1e38
"""Of single precision."""


def token_fields(head: bytes, spoken: bytes, num_gpus: int | None) -> dict[str, float | None]:
    """Fields of a record that say tokens a second: the mean of some steps, the first ones left out.

    Args:
        head: the text before the first step, which names the logger.
        spoken: where the text speaks.
        num_gpus: the logger tells the rate of one GPU, a record that of all with padding.
    """
    at = spoken.find(b"tokens_per_second_per_gpu:")
    found = [float(rate) for rate in _RATE.findall(spoken, at, at + _RATES_BYTES)] if at >= 0 else []
    warm = found[_COLD:] if len(found) > 2 * _COLD else []
    rate = sum(warm) / len(warm) if warm else None
    if rate is None:
        return {}
    if head.find(b"torchtune.utils.logging") >= 0 or not all(map(_of_a_tensor, warm)):
        return {"tokens_per_s": rate * num_gpus if num_gpus else None}
    return {"trained_tokens_per_s": rate}


def _of_a_tensor(number: float) -> bool:
    """Whether a number has single precision: of a tensor, which counts no padding; earlier, Python counted all tokens.

    >>> _of_a_tensor(9077.1552734375), _of_a_tensor(1168.905227851483)
    (True, False)
    """
    return number < _LARGEST and struct.unpack("f", struct.pack("f", number))[0] == number
