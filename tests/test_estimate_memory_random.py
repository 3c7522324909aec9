"""The closed forms of memory against simulated steps of random settings (benchmarks/allocator/differences.py: more)."""

import random

import pytest
from simulated_allocator import differences, draws


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", range(1, 7))
def test_closed_form_agrees_with_torchtune_on_what_nobody_chose(seed):
    one = draws.draw(random.Random(seed), layers=3)
    assert abs(differences.difference(one)) < 0.01, str(one)


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [7, 12, 26])
def test_closed_form_agrees_with_torchtune_on_several_gpus_and_with_offloading(seed):
    one = draws.draw_shared(random.Random(seed), layers=3)
    assert abs(differences.difference(one)) < 0.01, str(one)


@pytest.mark.trl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [*range(1000, 1006), 1010, 1021])
def test_closed_form_agrees_with_trl_on_what_nobody_chose(seed):
    one = draws.draw(random.Random(seed), "trl", layers=3)
    assert abs(differences.difference(one)) < 0.01, str(one)
