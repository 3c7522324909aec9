from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from runplan.summary.design import design_of, design_title, design_type

CONFIG = SimpleNamespace(sweep=SimpleNamespace(zip=()))


@pytest.mark.parametrize(
    ("factors", "kind", "title"),
    [
        ({}, "single run", "Single Run"),
        ({"model": "ab"}, "single factor, 2 levels", "Single-Factor Design, 2 levels"),
        ({"model": "ab", "lora.rank": (4, 64)}, "2x2 factorial", "2×2 Factorial Design"),
        ({"a": "abc", "b": "ab", "c": "ab"}, "3x2x2 factorial", "3×2×2 Factorial Design"),
        (
            {"model": "ab", "lora.rank": (4, 64), "seed": (1, 2, 3)},
            "2x2 factorial, 3 replicates (seed)",
            "2×2 Factorial Design, 3 replicates (seed)",
        ),
        ({"seed": (1, 2)}, "single run, 2 replicates (seed)", "Single Run, 2 replicates (seed)"),
    ],
)
def test_a_design_in_words(factors, kind, title):
    assert design_type(factors) == kind
    assert design_title(kind) == title


def test_combinations_that_are_left_out_are_said():
    factors = {"model": ("1B", "3B"), "lora.rank": (4, 64), "seed": (1, 2)}
    assert design_type(factors, combinations=6) == "2x2 factorial, 6 of 8 combinations, 2 replicates (seed)"
    assert design_type(factors, combinations=8) == "2x2 factorial, 2 replicates (seed)"


def test_paired_factors_count_once():
    factors = {"model": ("1B", "3B"), "optimizer.lr": (1e-4, 1e-5), "lora.rank": (4, 8, 16)}
    assert design_type(factors, combinations=6, paired=[["model", "optimizer.lr"]]) == "2x3 factorial"


def test_levels_are_told_apart_by_value_and_lists_too():
    levels = [1, 1.0, "1", [1], "[1]", [1], None, "1"]
    found = design_of([SimpleNamespace(factors={"key": level}, config=CONFIG) for level in levels])
    assert found.factors["key"] == (1, "1", [1], "[1]", None)


def test_many_levels_take_no_more_time_each():
    many = [SimpleNamespace(factors={"seed": seed}, config=CONFIG) for seed in range(30_000)]
    begun = time.process_time()
    assert len(design_of(many).factors["seed"]) == 30_000
    assert time.process_time() - begun < 2
