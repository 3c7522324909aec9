from __future__ import annotations

import math
import random
import statistics

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from runplan.collect.intervals import ALIKE, STUDENT, over_replicates, over_samples, t_quantile

DIFFERENCES = st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=2, max_size=60)
FLOATS = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12)


@given(DIFFERENCES | FLOATS, st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_samples_does_not_matter(values, shuffler):
    shuffled = [*values]
    shuffler.shuffle(shuffled)
    assert over_samples(values) == over_samples(shuffled)
    assert over_replicates(values) == over_replicates(shuffled)


@given(st.floats(-1e6, 1e6).filter(lambda value: value not in {-1.0, 0.0, 1.0}), st.integers(2, 50))
def test_equal_values_say_nothing_about_others(value, n):
    found = over_samples([value] * n)
    assert (found.mean, found.low, found.high, found.method) == (value, None, None, "")


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_where_all_answers_agree_others_may_differ(value):
    found = over_samples([value] * 100)
    others = 1 - 0.025**0.01  # 3.6 %: the rule of three at 97.5 %
    assert others == pytest.approx(0.036, abs=0.001)
    assert (found.mean, found.n, found.method) == (value, 100, ALIKE)
    assert found.low == pytest.approx(max(-1.0, value - others * (value + 1)))
    assert found.high == pytest.approx(min(1.0, value + others * (1 - value)))


@given(st.floats(-10, 10), st.integers(2, 9))
def test_equal_replicates_say_nothing_about_others(value, k):
    found = over_replicates([value] * k)
    assert (found.low, found.high, found.method) == (None, None, "")


@given(DIFFERENCES | FLOATS)
@settings(max_examples=30)
def test_an_interval_holds_its_mean_and_stays_among_the_values(values):
    assume(min(values) < max(values))
    found = over_samples(values)
    tiny = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - tiny <= found.low <= found.mean + tiny
    assert found.mean - tiny <= found.high <= max(values) + tiny


@given(DIFFERENCES)
@settings(max_examples=30)
def test_the_opposite_comparison_has_the_opposite_interval(values):
    one, other = over_samples(values), over_samples([-value for value in values])
    assert other.mean == -one.mean
    assert other.low == pytest.approx(-one.high, abs=1.01 / len(values))  # one step


def right_and_wrong(shuffler):
    return float(shuffler.random() < 0.4) - float(shuffler.random() < 0.2)


def test_ninety_five_of_a_hundred_intervals_cover_the_truth():
    shuffler = random.Random(1)
    covered = 0
    for _ in range(200):
        found = over_samples([right_and_wrong(shuffler) for _ in range(40)])
        covered += found.low <= 0.2 <= found.high
    assert abs(covered / 200 - 0.95) < 3 * math.sqrt(0.95 * 0.05 / 200)


def test_the_bootstrap_agrees_with_the_normal_interval_where_both_hold():
    shuffler = random.Random(2)
    values = [shuffler.gauss(3, 2) for _ in range(400)]
    found = over_samples(values)
    half = 1.96 * statistics.stdev(values) / math.sqrt(400)
    assert found.low == pytest.approx(statistics.fmean(values) - half, abs=0.03)
    assert found.high == pytest.approx(statistics.fmean(values) + half, abs=0.03)


def test_counted_and_drawn_resamples_agree():
    values = [0.0] * 40 + [1.0] * 60
    counted = over_samples(values)
    drawn = over_samples([value + i * 1e-9 for i, value in enumerate(values)])  # a hundred different values
    assert drawn.low == pytest.approx(counted.low, abs=0.011)
    assert drawn.high == pytest.approx(counted.high, abs=0.011)


def test_one_value_says_nothing_about_scatter():
    for found in (over_samples([0.5]), over_replicates([0.5])):
        assert (found.mean, found.low, found.high, found.method, found.n) == (0.5, None, None, "", 1)


@pytest.mark.parametrize("mean", [over_samples, over_replicates])
def test_a_mean_of_nothing_is_refused(mean):
    with pytest.raises(ValueError, match="nothing"):
        mean([])


def test_replicates_by_the_textbook():
    # NIST e-Handbook: mean +- t(0.975, N - 1) * s / sqrt(N); t for 2 degrees of freedom is 4.3027
    found = over_replicates([0.4, 0.5, 0.6])
    assert found.low == pytest.approx(0.5 - 4.302653 * 0.1 / math.sqrt(3))
    assert found.high == pytest.approx(0.5 + 4.302653 * 0.1 / math.sqrt(3))
    assert (found.n, found.method) == (3, STUDENT)


@pytest.mark.parametrize(
    ("freedom", "expected"), [(1, 12.7062), (9, 2.2622), (21, 2.0796), (30, 2.0423), (100, 1.9840), (10**9, 1.95996)]
)
def test_students_t(freedom, expected):
    assert t_quantile(freedom) == pytest.approx(expected, abs=6e-5)


def test_students_t_falls_without_a_step_where_the_table_ends():
    values = [t_quantile(freedom) for freedom in range(1, 60)]
    assert values == sorted(values, reverse=True)
    assert values[19] - values[20] < 1.1 * (values[18] - values[19])
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile(0)
