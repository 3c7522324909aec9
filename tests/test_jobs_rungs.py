"""Rungs keep what the experiment is about: the effective batch, the steps, and what the user set."""

from dataclasses import replace

import pytest
from factories import ESTIMATED, make_config, make_run
from factories_plan import make_sizing
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate.workload import Interval
from runplan.jobs.rungs import MOST_RUNGS, plan_rungs, room_s
from runplan.sweep.ranges import check_ranges


def rungs(*, estimated=frozenset(ESTIMATED), asked_checkpointing=None, **settings):
    run = make_run(make_config(**settings))
    asked = replace(run.composed.config, activation_checkpointing=asked_checkpointing)
    return plan_rungs(run.config, replace(run.composed, config=asked, estimated=estimated), run.recipe)


def sizes(found):
    return [(each.batch_size, each.gradient_accumulation_steps, each.activation_checkpointing) for each in found]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"batch_size": 16, "gradient_accumulation_steps": 1}, [(8, 2, False), (4, 4, False)]),
        ({"batch_size": 2, "gradient_accumulation_steps": 8}, [(1, 16, False), (1, 16, True)]),
        ({"batch_size": 1, "gradient_accumulation_steps": 16}, [(1, 16, True)]),
        ({"batch_size": 4, "model": "3B"}, [(2, 8, True), (1, 16, True)]),  # recomputes as it is
        ({"batch_size": 1, "model": "3B"}, []),
        ({"batch_size": 6, "trainer__max_rungs": 3}, [(3, 8, False), (1, 24, False), (1, 24, True)]),
        ({"batch_size": 4, "trainer__max_rungs": 0}, []),
        ({"batch_size": 4, "trainer__device": "cpu"}, []),
    ],
)
def test_half_the_batch_then_checkpointing(settings, expected):
    found = rungs(**settings)
    assert sizes(found) == expected
    assert [each.file for each in found] == [f"finetune.rung{n}.yaml" for n in range(1, len(expected) + 1)]


@pytest.mark.parametrize("key", ["batch_size", "gradient_accumulation_steps"])
def test_what_the_user_set_is_changed_only_when_asked_for(key):
    own = frozenset(ESTIMATED) - {key}
    assert rungs(estimated=own) == ()
    assert sizes(rungs(estimated=own, trainer__max_rungs=1)) == [(2, 8, False)]


def test_checkpointing_that_was_switched_off_stays_off():
    assert sizes(rungs(batch_size=2, asked_checkpointing=False)) == [(1, 8, False)]


def test_a_recipe_of_the_users_own_has_none():
    run = make_run(make_config(trainer__max_rungs=2))
    assert plan_rungs(run.config, run.composed, replace(run.recipe, custom=True)) == ()


def test_fewer_than_none_is_refused():
    (problem,) = check_ranges(make_config(trainer__max_rungs=-1))
    assert problem.where == "trainer.max_rungs"


RUN = make_run()


@given(st.integers(1, 64), st.integers(1, 16), st.integers(0, 20000), st.integers(1, 8))
def test_the_steps_of_an_epoch_stay(batch, accumulation, rows, most):
    """torchtune: `len(dataloader) // accumulation`, and the loader drops what does not fill a batch."""
    trainer = replace(RUN.config.trainer, max_rungs=most)
    config = replace(RUN.config, batch_size=batch, gradient_accumulation_steps=accumulation, trainer=trainer)
    found = plan_rungs(config, replace(RUN.composed, config=replace(config, activation_checkpointing=None)), RUN.recipe)
    assert len(found) <= most
    last = batch + 1
    for rung in found:
        assert rung.batch_size * rung.gradient_accumulation_steps == batch * accumulation
        assert rows // rung.batch_size // rung.gradient_accumulation_steps == rows // batch // accumulation
        assert rung.batch_size < last or rung.activation_checkpointing
        last = rung.batch_size
    assert MOST_RUNGS == 2


TWO = rungs(batch_size=16)


def sizing(p50, p95):
    parts = {"startup": 30.0, "first_step": 5.0}
    return make_sizing(1.0, needed_memory_gib=Interval(p50, p95), it_per_s=2.0, parts_s=parts)


def test_time_for_attempts_that_fail_only_where_they_may():
    once = 30.0 + 5.0 + 10 / 2.0
    assert room_s(TWO, sizing(40.0, 44.0), 80.0) == 0.0
    assert room_s(TWO, sizing(70.0, 79.9), 80.0) == once  # 5 %, and 0.2 % for the second
    assert room_s(TWO, sizing(79.0, 90.0), 80.0) == 2 * once  # a batch that the user set
    assert room_s(TWO[:1], sizing(79.0, 90.0), 80.0) == once
    assert room_s((), sizing(79.0, 90.0), 80.0) == 0.0


@given(st.floats(1, 200), st.floats(1, 2), st.floats(8, 160))
def test_more_rungs_never_take_less_time(p50, wide, memory_gib):
    one, two = (room_s(TWO[:n], sizing(p50, p50 * wide), memory_gib) for n in (1, 2))
    assert 0 <= one <= two <= 2 * one
