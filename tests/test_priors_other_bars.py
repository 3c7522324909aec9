"""An evaluation before training, or instead of it, is not training."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.parse import parse_text

ASKED = "per_device_train_batch_size=2\n"
RESULT = "{'eval_loss': 1.8, 'eval_runtime': 3310.0, 'eval_steps_per_second': 0.254}\n"
LOSS = "{'loss': 1.6384, 'grad_norm': 0.12, 'learning_rate': 0.0, 'epoch': 0.01}\n"


def bar(done: int, total: int, each_s: int = 4) -> str:
    at = done * each_s
    clock = f"{at // 3600}:{at // 60 % 60:02d}:{at % 60:02d}" if at >= 3600 else f"{at // 60:02d}:{at % 60:02d}"
    return (
        f"{100 * done // total:3d}%|{'#' * (10 * done // total):10s}| {done}/{total} [{clock}<00:00,  {each_s:.2f}s/it]"
    )


def bars(total: int, until: int | None = None, each_s: int = 4) -> str:
    last = total if until is None else until
    return "\r".join(bar(done, total, each_s) for done in sorted({*range(1, last, 7), last})) + "\n"


BEGUN = "  0%|          | 0/465 [00:00<?, ?it/s]"


@given(evaluated=st.integers(2, 900), done=st.integers(1, 40))
def test_the_bar_of_an_evaluation_before_is_not_training_s(evaluated, done):
    text = ASKED + bars(evaluated) + RESULT + BEGUN + "\r" + bars(465, done, 8) + LOSS
    said = parse_text(text.encode())
    assert said is not None
    assert (said["steps_done"], said["steps_total"], said["wall_s"]) == (done, 465, 8 * done)


def test_two_evaluations_before_a_training_that_has_not_made_a_step():
    said = parse_text((ASKED + bars(827) + RESULT + bars(300) + RESULT + BEGUN).encode())
    assert said is not None
    assert (said.get("steps_done"), said.get("steps_total"), said.get("wall_s")) == (0, 465, None)


@pytest.mark.parametrize("evaluations", [1, 2])
def test_evaluations_alone_have_no_steps(evaluations):
    text = ASKED + "".join(bars(827 - i) + RESULT for i in range(evaluations))
    said = parse_text(text.encode()) or {}
    assert not {"steps_done", "steps_total", "s_per_step"} & {key for key, value in said.items() if value is not None}


@pytest.mark.parametrize("end", ["", "{'train_runtime': 401.5, 'train_steps_per_second': 0.249, 'epoch': 1.0}\n"])
@pytest.mark.parametrize("losses", ["", LOSS])
def test_an_evaluation_at_the_end_takes_nothing_from_training(losses, end):
    text = ASKED + bars(100) + losses + bars(24, each_s=1) + RESULT + end
    said = parse_text(text.encode())
    assert said is not None
    assert (said["steps_done"], said["steps_total"]) == (100, 100)
