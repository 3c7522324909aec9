"""runplan/estimate/factors.py: factors that logs teach."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.factors import learn, learn_weighed

SPREAD, NOISE = 0.45, 0.35
LOGS = st.lists(st.tuples(st.floats(-2, 2), st.floats(NOISE, 5.0)), min_size=1, max_size=12)


def test_nothing_is_learnt_from_nothing():
    for learnt in (learn([], SPREAD, NOISE), learn_weighed([], SPREAD, NOISE)):
        assert (learnt.log_factor, learnt.sigma, learnt.n) == (0.0, SPREAD, 0)


@given(LOGS)
def test_a_factor_lies_between_the_usual_and_what_was_seen_and_never_grows_wider(logs):
    learnt = learn_weighed(logs, SPREAD, NOISE)
    values = [0.0, *(log for log, _ in logs)]
    assert min(values) <= learnt.log_factor <= max(values)
    assert NOISE < learnt.sigma <= SPREAD + 1e-12


@given(LOGS, st.tuples(st.floats(-2, 2), st.floats(NOISE, 5.0)))
def test_every_log_narrows(logs, more):
    assert learn_weighed([*logs, more], SPREAD, NOISE).sigma < learn_weighed(logs, SPREAD, NOISE).sigma


def test_what_is_unsure_weighs_little():
    sure, unsure = learn_weighed([(1.0, NOISE)], SPREAD, NOISE), learn_weighed([(1.0, 10 * NOISE)], SPREAD, NOISE)
    assert sure.log_factor > 0.35
    assert unsure.log_factor < 0.01
    assert learn_weighed([(0.5, NOISE), (-2.0, 5.0)], SPREAD, NOISE).log_factor > 0


def test_half_of_the_weight_lies_on_either_side():
    equal = learn_weighed([(0.2, NOISE), (0.4, NOISE), (9.0, NOISE), (-9.0, NOISE)], SPREAD, NOISE)
    trust = 4 / (4 + NOISE**2 / (SPREAD**2 - NOISE**2))
    assert equal.log_factor == pytest.approx(trust * 0.3)
    assert equal.sigma == pytest.approx(math.sqrt((SPREAD**2 - NOISE**2) * (1 - trust) + NOISE**2))
