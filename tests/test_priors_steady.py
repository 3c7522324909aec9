import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.steady import Draw, steady_s_per_step


def bar(steps, step_s, start=0.0):
    """Every draw of a bar whose steps all take the same, as tqdm shows them: whole seconds, and its own rate."""
    return [Draw(20 * i, 1, i, steps, int(start + i * step_s), step_s) for i in range(1, steps + 1)]


@given(st.integers(40, 400), st.floats(0.003, 2.0), st.floats(0.0, 0.99))
def test_a_steady_run_has_its_speed_however_short_it_is(steps, step_s, start):
    found, _ = steady_s_per_step(bar(steps, step_s, start), [], every_draw=True)
    assert found == pytest.approx(step_s, rel=0.03)


def test_a_run_within_one_second_is_as_fast_as_its_bar_says():
    found, _ = steady_s_per_step(bar(78, 0.0112), [])
    assert found == pytest.approx(0.0112)
