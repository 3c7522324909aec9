import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.intervals import sigma
from runplan.estimate.wall_time.two_parts import Timed, TwoParts, learn_parts

SIZES = (2.5, 6.4, 16.0)


def timed(size, constant=12.0, rate=0.6, factors=(1.0, 1.0)):
    usual = constant, size / rate
    return Timed(factors[0] * usual[0] + factors[1] * usual[1], *usual)


def test_nothing_takes_no_time():
    assert TwoParts().of(0.0, 0.0) == (0.0, 0.0)


def test_nothing_learnt_is_the_usual_time_and_wide():
    nothing = learn_parts([])
    assert (nothing.n, nothing.of(10.0, 5.0).p50) == (0, pytest.approx(15.0))
    assert nothing == TwoParts()
    assert sigma(nothing.of(10.0, 5.0)) > 0.3


def test_models_of_several_sizes_tell_the_parts_apart():
    learnt = learn_parts([timed(size, factors=(2.0, 0.25)) for size in SIZES for _ in range(3)])
    for size in (1.0, 30.0):
        truth = timed(size, factors=(2.0, 0.25))
        assert learnt.of(*truth[1:3]).p50 == pytest.approx(truth.seconds, rel=0.15)


@given(st.floats(0.3, 3.0), st.sampled_from(SIZES))
def test_one_log_moves_the_estimate_most_of_the_way_and_narrows_it(factor, size):
    one = timed(size, factors=(factor, factor))
    before, after = TwoParts().of(*one[1:3]), learn_parts([one]).of(*one[1:3])
    assert abs(math.log(after.p50 / one.seconds)) <= 0.3 * abs(math.log(before.p50 / one.seconds)) + 1e-9
    assert sigma(after) < sigma(before)


def test_one_wild_time_bends_little():
    calm = [timed(size) for size in SIZES for _ in range(2)]
    wild = learn_parts([*calm, timed(6.4)._replace(seconds=900.0)])
    assert wild.of(12.0, 10.0).p50 == pytest.approx(22.0, rel=0.05)


@given(st.lists(st.sampled_from([0.0, -1.0, math.inf, math.nan, 3.0]), max_size=5))
def test_what_is_no_time_is_passed_over(seconds):
    learnt = learn_parts([Timed(one, 1.0, 2.0) for one in seconds])
    assert learnt.n == seconds.count(3.0)
    assert 0 < learnt.of(1.0, 2.0).p50 < 10


def test_what_was_known_before_counts():
    first, second = [timed(1.0, factors=(2.0, 0.5))] * 3, [timed(30.0, factors=(2.0, 0.5))] * 3
    one_by_one = learn_parts(second, before=learn_parts(first))
    assert one_by_one.factors == pytest.approx(learn_parts([*first, *second]).factors, abs=0.1)
    assert learn_parts([], before=one_by_one).factors == one_by_one.factors


def test_a_time_of_its_own_noise_counts_by_it_and_without_tails_however_far_off():
    far = timed(1.0, factors=(8.0, 8.0))
    sure, unsure = (learn_parts([far._replace(noise=noise)], tails=math.inf).of(*far[1:3]).p50 for noise in (0.05, 0.5))
    assert unsure < sure == pytest.approx(far.seconds, rel=0.05)
    assert learn_parts([far]).of(*far[1:3]).p50 < sure
