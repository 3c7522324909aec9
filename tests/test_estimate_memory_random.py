"""The closed forms of memory against simulated steps of random settings (benchmarks/allocator/differences.py: more)."""

import dataclasses
import random

import pytest
from simulated_allocator import differences, draws
from test_estimate_trl import simulate

from runplan.estimate.memory import closed_form, torchtune_step


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
@pytest.mark.parametrize("seed", range(1000, 1004))
def test_closed_form_agrees_with_trl_on_what_nobody_chose(seed, monkeypatch):
    one = draws.draw(random.Random(seed), "trl", layers=3)
    w = dataclasses.replace(one.workload, adapter=dataclasses.replace(one.workload.adapter, dropout=0.0))
    simulated, _ = simulate(monkeypatch, w, one.batch, one.tokens, one.accumulation)
    computed = (
        closed_form.allocated_gib(w, one.batch, one.tokens, one.accumulation)
        - torchtune_step.WORKSPACE_DEFAULT_MIB / 1024
    )
    assert computed == pytest.approx(simulated / 2**30, rel=0.01), str(one)
