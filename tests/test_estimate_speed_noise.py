import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.speed.noise import TAILS, robust_noise, scale

LEAST = 0.04**2


@given(st.lists(st.floats(-0.02, 0.02), min_size=1, max_size=20))
def test_logs_that_agree_keep_about_the_noise_that_was_assumed(errors):
    found = robust_noise([LEAST] * len(errors), errors)
    assert all(0.8 * LEAST <= variance <= 1.3 * LEAST for variance in found)


def test_one_odd_log_is_noisy_and_the_others_stay_telling():
    *calm, odd = robust_noise([LEAST] * 9, [0.01] * 8 + [0.5])
    assert odd > 20 * LEAST
    assert max(calm) < 2 * LEAST


def test_where_all_scatter_all_are_noisy():
    found = robust_noise([LEAST] * 12, [0.4, -0.4] * 6)
    assert min(found) > 10 * LEAST
    assert max(found) == pytest.approx(min(found))


def test_intervals_are_widened_and_never_narrowed():
    assert scale(0.0, 10) == 1.0
    assert scale(100.0, 5) > 3.0
    assert TAILS > 2  # or variances would have no meaning
