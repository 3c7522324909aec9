"""Times, memory, counts and names between numbers, SLURM text and what people read.

Inside runplan memory is GiB and time is seconds. SLURM's "G" is GiB (its units are powers of 1024),
and a request always rounds up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

MINUTE_S = 60
HOUR_S = 3600
DAY_S = 86400
GIB = 2**30
MIB_PER_GIB = 1024
GB_PER_GIB = 1e9 / GIB

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<fields>\d+(?::\d+){0,2})")
_MEMORY = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?:(?P<unit>[KMGT])(?:i?B)?)?", re.IGNORECASE)
_MEMORY_GIB = {"": 1 / 1024, "K": 1 / 1024**2, "M": 1 / 1024, "G": 1.0, "T": 1024.0}


def slurm_time(time_s: float) -> str:
    """A duration as SLURM's `HH:MM:SS`, rounded up to the next whole second; hours may exceed 24.

    >>> slurm_time(900)
    '00:15:00'
    >>> slurm_time(100 * 3600)
    '100:00:00'
    """
    total = math.ceil(time_s)
    return f"{total // HOUR_S:02d}:{total % HOUR_S // MINUTE_S:02d}:{total % MINUTE_S:02d}"


def round_up_time_s(time_s: float, step_min: int = 5) -> int:
    """The next multiple of `step_min` minutes at or above a duration, at least one step, in seconds."""
    step_s = step_min * MINUTE_S
    return max(1, math.ceil(time_s / step_s - 1e-9)) * step_s


def parse_slurm_time(text: str) -> int | None:
    """Seconds of a SLURM duration; `None` for UNLIMITED and its kin.

    SLURM reads `M`, `M:S`, `H:M:S`, `D-H`, `D-H:M` and `D-H:M:S` (man sbatch, --time).

    Raises:
        ValueError: the text is no SLURM duration.
    """
    text = text.strip()
    if text.upper() in {"UNLIMITED", "INFINITE", "NONE", "N/A", "NOT_SET", ""}:
        return None
    match = _CLOCK.fullmatch(text)
    if not match:
        raise ValueError(f"{text!r} is not a SLURM time such as 02:30:00 or 1-12:00:00")
    fields = [int(field) for field in match["fields"].split(":")]
    if match["days"] is not None:
        hours, minutes, seconds = [*fields, 0, 0][:3]
        return int(match["days"]) * DAY_S + hours * HOUR_S + minutes * MINUTE_S + seconds
    if len(fields) == 1:
        return fields[0] * MINUTE_S
    hours, minutes, seconds = [0, *fields][-3:]
    return hours * HOUR_S + minutes * MINUTE_S + seconds


def slurm_memory(memory_gib: float) -> str:
    """Memory as SLURM text in whole GiB, rounded up.

    >>> slurm_memory(15.2)
    '16G'
    """
    return f"{max(1, math.ceil(memory_gib - 1e-9))}G"


def parse_memory_gib(text: str) -> float:
    """GiB of SLURM or human memory text; a bare number is MiB, as SLURM has it.

    Raises:
        ValueError: the text is no amount of memory.
    """
    match = _MEMORY.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory such as 64G or 64000M")
    return float(match["number"]) * _MEMORY_GIB[(match["unit"] or "").upper()]


def used_memory_gib(text: str) -> float | None:
    """GiB of memory that a job used as `sacct` prints it, without a unit in bytes; None of what is no amount."""
    try:
        return parse_memory_gib(text if text[-1:].isalpha() else f"{float(text) / 1024:.3f}K") if text else None
    except ValueError:
        return None


def short_time(time_s: float) -> str:
    """A duration as a person says it, rounded up: `45s`, `16min`, `2h 05min`, `3d 4h`."""
    if math.ceil(time_s) < MINUTE_S:
        return f"{math.ceil(time_s)}s"
    minutes = math.ceil(time_s / MINUTE_S - 1e-9)
    if minutes < 60:
        return f"{minutes}min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes:02d}min"
    days, hours = divmod(hours + (minutes > 0), 24)
    return f"{days}d {hours}h"


def short_number(value: float) -> str:
    """A number as people write hyperparameters: `1e-5`, `0.0003` as `3e-4`, `2e-5`, `16`, `0.05`.

    >>> short_number(1e-05), short_number(0.0003), short_number(0.05), short_number(64)
    ('1e-5', '3e-4', '0.05', '64')
    """
    if isinstance(value, int) or not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-2 <= abs(value) < 1e6:
        return repr(value).removesuffix(".0")
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    mantissa = str(digits[0]) + ("." if len(digits) > 1 else "") + "".join(map(str, digits[1:]))
    return f"{'-' * sign}{mantissa}e{int(exponent) + len(digits) - 1}"


def short_hours(hours: float) -> str:
    """Hours with one decimal, small ones with two digits that count: `12.3`, `0.049`."""
    return f"{hours:.1f}" if hours >= 1 else f"{hours:.2g}"


def number_of(number: int, noun: str) -> str:
    """A number of things in words.

    >>> number_of(1, "file"), number_of(2, "file")
    ('1 file', '2 files')
    """
    return f"{number} {noun}{'s' * (number != 1)}"


def some_of(names: Sequence[str], most: int) -> str:
    """Names with commas between them, those beyond the first `most` only counted.

    >>> some_of(["a", "b", "c"], 2), some_of(["a", "b"], 2)
    ('a, b and 1 more', 'a, b')
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
