from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.units import (
    parse_memory_gib,
    parse_slurm_time,
    round_up_time_s,
    short_number,
    short_time,
    slurm_memory,
    slurm_time,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("12:30", 750),
        ("01:02:03", 3723),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("2-00:00:01", 172801),
        ("100:00:00", 360000),
        ("UNLIMITED", None),
        (" infinite ", None),
        ("n/a", None),
    ],
)
def test_slurm_times_are_read_as_slurm_reads_them(text, seconds):
    assert parse_slurm_time(text) == seconds


@pytest.mark.parametrize("text", ["1h", "-5", "1:2:3:4", "1-", "1.5", "one", "12:30:00 pm", "1-2-3"])
def test_text_that_is_no_slurm_time(text):
    with pytest.raises(ValueError, match="is not a SLURM time"):
        parse_slurm_time(text)


@given(st.floats(0, 1e7))
def test_a_time_is_asked_for_in_full(seconds):
    asked = parse_slurm_time(slurm_time(seconds))
    assert asked is not None
    assert 0 <= asked - seconds <= 1


@given(st.floats(0, 1e7), st.integers(1, 60))
def test_times_are_rounded_up_to_whole_steps(seconds, step_min):
    rounded = round_up_time_s(seconds, step_min)
    assert rounded % (step_min * 60) == 0
    assert rounded >= max(seconds - 1e-3, step_min * 60)
    assert rounded < seconds + 2 * step_min * 60


def test_a_time_on_a_step_stays():
    assert round_up_time_s(900) == 900
    assert round_up_time_s(900.01) == 1200
    assert round_up_time_s(0) == 300


@pytest.mark.parametrize(
    ("text", "gib"),
    [
        ("64G", 64),
        ("64GB", 64),
        ("64GiB", 64),
        ("512M", 0.5),
        ("1024", 1),
        ("1T", 1024),
        ("1048576K", 1),
        ("1.5g", 1.5),
    ],
)
def test_memory_is_read_in_binary_units(text, gib):
    assert parse_memory_gib(text) == gib


@pytest.mark.parametrize("text", ["", "G", "64X", "-1G", "64 gigs", "5B", "5iB", "1e3"])
def test_text_that_is_no_memory(text):
    with pytest.raises(ValueError, match="is not an amount of memory"):
        parse_memory_gib(text)


@given(st.floats(0, 1e5))
def test_memory_is_asked_for_in_full(gib):
    asked = parse_memory_gib(slurm_memory(gib))
    assert gib - 1e-6 <= asked <= gib + 1 + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (44.2, "45s"),
        (59.5, "1min"),
        (921.7, "16min"),
        (960, "16min"),
        (3599, "1h 00min"),
        (7500, "2h 05min"),
        (172799, "2d 0h"),
        (273600, "3d 4h"),
    ],
)
def test_durations_as_people_say_them(seconds, text):
    assert short_time(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-5, "1e-5"), (3e-4, "3e-4"), (2.5e-5, "2.5e-5"), (0.05, "0.05"), (0.01, "0.01"), (64, "64"), (64.0, "64"),
        (0.0, "0"), (1e6, "1e6"), (1e-10, "1e-10"), (-1e-5, "-1e-5"), (float("inf"), "inf"), (1.5, "1.5"),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(value, text):
    assert short_number(value) == text


@given(st.floats(allow_nan=False))
def test_short_numbers_lose_nothing(value):
    assert float(short_number(value)) == value or math.isinf(value)
