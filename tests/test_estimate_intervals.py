import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runplan.estimate import intervals
from runplan.estimate.workload import Interval

parts = st.lists(st.builds(intervals.from_median, st.floats(1e-3, 1e6), st.floats(0.0, 6.0)), min_size=1, max_size=12)


@given(parts)
@example([intervals.from_median(*part) for part in ((218.0, 0.25), (429.0, 0.25), (0.5, 4.0))])
def test_p95_of_a_sum_is_between_the_largest_part_and_the_sum_of_p95s(several):
    whole = intervals.total(several)
    assert whole.p50 <= whole.p95 <= math.fsum(part.p95 for part in several) * (1 + 1e-9)
    assert whole.p50 >= math.fsum(part.p50 for part in several) * (1 - 1e-9)
    assert whole.p95 >= max(part.p95 for part in several) * (1 - 1e-9)


@given(parts)
def test_a_sum_does_not_depend_on_the_order(several):
    there, back = intervals.total(several), intervals.total(several[::-1])
    assert there == pytest.approx(back)


def test_one_part_is_its_own_sum_and_nothing_is_zero():
    assert intervals.total([Interval(10.0, 15.0)]) == Interval(10.0, 15.0)
    assert intervals.total([]) == Interval(0.0, 0.0)
    assert intervals.total([Interval(10.0, 15.0), Interval(0.0, 0.0)]) == Interval(10.0, 15.0)


def test_independent_errors_cancel_and_common_ones_do_not():
    many = [Interval(10.0, 15.0)] * 100
    apart, together = intervals.total(many, correlation=0.0), intervals.total(many, correlation=1.0)
    assert apart.p95 / apart.p50 < 1.05
    assert together.p95 / together.p50 == pytest.approx(1.5, rel=0.02)


def test_sums_agree_with_drawn_numbers():
    rng = random.Random(1)
    spreads = [(100.0, 0.3), (50.0, 0.6), (20.0, 0.2)]
    drawn = sorted(sum(m * math.exp(s * rng.gauss(0, 1)) for m, s in spreads) for _ in range(20000))
    whole = intervals.total([intervals.from_median(*pair) for pair in spreads], correlation=0.0)
    assert whole.p50 == pytest.approx(drawn[10000], rel=0.02)
    assert whole.p95 == pytest.approx(drawn[19000], rel=0.03)
