"""Bars with equal totals are put together to runs, and the last training among them is found."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from runplan.priors.courses import courses, last_course
from runplan.priors.parse import parse_text
from runplan.priors.steady import Draw

TOTAL = 60


def run(each_s: int, until: int = TOTAL, since: int = 0, total: int = TOTAL) -> list[Draw]:
    return [Draw(0, 1, done, total, (done - since) * each_s, None) for done in range(since, until + 1)]


def placed(draws: list[Draw]) -> list[Draw]:
    return [draw._replace(at=place) for place, draw in enumerate(draws)]


@given(st.lists(st.tuples(st.integers(4, 7), st.integers(10, TOTAL)), min_size=1, max_size=5))
@example([(7, 10), (6, 11)])
def test_the_last_of_several_attempts_is_found(attempts):
    draws = placed([draw for each_s, until in attempts for draw in run(each_s, until)])
    assert sum(map(len, courses(draws))) == len(draws)
    assert last_course(draws) == draws[-attempts[-1][1] - 1 :]


@given(st.integers(12, TOTAL - 1), st.integers(12, TOTAL), st.integers(4, 9))
def test_an_evaluation_of_as_many_steps_is_no_training(at, until, each_s):
    training = run(each_s)
    before, after = training[:at], training[at : max(at, until)]
    evaluation = run(1)
    draws = placed([*before, *evaluation, *after])
    assert last_course(draws) == [*draws[:at], *draws[at + len(evaluation) :]]


@given(st.integers(1, 9), st.integers(1, 9))
def test_how_long_it_took_tells_which_is_meant(first, second):
    draws = placed([*run(first), *run(second)])
    taken = last_course(draws, wall_s=TOTAL * second + 1)
    assert taken[-1].elapsed_s == TOTAL * second


def test_ranks_that_draw_the_same_bar_are_one():
    one = run(3)
    both = placed([draw for pair in zip(one[1:], one, strict=False) for draw in pair])
    assert courses(both) == [both]


def test_what_went_on_from_a_checkpoint_counts_from_there():
    draws = placed([*run(20, 40), *run(20, 50, since=30)])
    assert last_course(draws) == draws[-21:]


def test_folds_without_any_other_line():
    lines = [
        f"{done}%|##  | {done}/100 [{done * 3 // 60:02d}:{done * 3 % 60:02d}<01:00,  3.00s/it]" for done in range(101)
    ]
    fast = [
        f"{done}%|##  | {done}/100 [{done * 2 // 60:02d}:{done * 2 % 60:02d}<01:00,  2.00s/it]" for done in range(101)
    ]
    said = parse_text(("Training/evaluation parameters\n" + "\n".join([*lines, *fast, *fast[:61]])).encode())
    assert (said["steps_done"], said["steps_total"], said["wall_s"], said["s_per_step"]) == (60, 100, 120, 2.0)
