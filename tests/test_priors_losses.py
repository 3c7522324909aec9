"""How far and how fast a run came whose bar is not in its log."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.priors.losses import Start, notebook_fields, start_of
from runplan.priors.parse import parse_text

BEGAN = datetime(2025, 3, 1, 23, 50)  # noqa: DTZ001 - logs name no zone


def banner(examples=400, epochs=4, batch=8, steps=None, stamp=""):
    lines = [
        "***** Running training *****",
        f"  Num examples = {examples:,}",
        f"  Num Epochs = {epochs}",
        f"  Total train batch size (w. parallel, distributed & accumulation) = {batch}",
        f"  Total optimization steps = {steps or examples * epochs // batch}",
    ]
    return "".join(f"{stamp}{line}\n" for line in lines)


def stamp(seconds):
    return f"[INFO|{BEGAN + timedelta(seconds=seconds)}] logging.py:1 >> "


def losses(steps, each, s_per_step=None, every=10):
    for i in range(every, steps + 1, every):
        when = stamp(20 + i * s_per_step) if s_per_step else ""
        yield f"{when}{{'loss': 1.5, 'learning_rate': 1e-05, 'epoch': {i / each:.2f}}}\n"


@given(st.floats(0.5, 90), st.integers(8, 40))
def test_the_clock_of_losses_tells_the_speed(s_per_step, lines):
    steps = 10 * lines
    text = banner(epochs=10, stamp=stamp(0)) + "".join(losses(steps, 50, s_per_step))
    said = parse_text(text.encode())
    assert said["steps_done"] == steps
    assert said["wall_s"] == pytest.approx(20 + steps * s_per_step, abs=1)
    if steps * s_per_step > 120:
        assert said["s_per_step"] == pytest.approx(s_per_step, rel=0.03)


def test_losses_without_a_clock_tell_only_how_far_it_came():
    said = parse_text((banner() + "".join(losses(120, 50))).encode())
    assert said["steps_done"] == 120
    assert "s_per_step" not in said
    assert "wall_s" not in said


@pytest.mark.parametrize(
    "text",
    [
        banner(examples=40_000, epochs=4) + "".join(losses(100, 5000)),  # a step is a fiftieth of what is printed
        banner(steps=60) + "".join(losses(100, 50)),  # not the epochs' steps: max_steps
        "".join(losses(100, 50)),
    ],
)
def test_what_an_epoch_is_must_be_known(text):
    assert "steps_done" not in (parse_text(text.encode()) or {})


def test_no_day_of_the_calendar_is_no_clock():
    text = banner(stamp="[2025-13-45 10:00:00] ") + "[2025-13-45 10:00:00] ".join(["", *losses(120, 50)])
    said = parse_text(text.encode())
    assert "s_per_step" not in said
    assert said["steps_done"] == 120


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        (b" [90/90 01:55, Epoch 30/30]", {"steps_done": 90, "steps_total": 90, "wall_s": 115.0, "completed": True}),
        (
            b" [ 660/3758 2:31:52 < 11:55:01, 0.07 it/s, Epoch 0.35/2]",
            {"steps_done": 660, "steps_total": 3758, "wall_s": 9112.0, "completed": False},
        ),
        (b" [100/100 00:30]", {}),  # evaluation
        (b" [ 2/90 : < :, Epoch 0.02/1]", {}),
    ],
)
def test_a_notebook_shows_its_progress(text, fields):
    assert notebook_fields(text) == fields


def test_a_notebook_that_is_interrupted_did_not_complete():
    text = b"***** Running training *****\n [ 9/90 01:55 < 20:00, 0.1 it/s, Epoch 1/30]\nKeyboardInterrupt: \n"
    said = parse_text(text)
    assert (said["state"], said["steps_done"]) == ("cancelled", 9)


END = "{{'train_runtime': {}, 'train_steps_per_second': {:.3f}, 'train_loss': 1.5, 'epoch': {}}}\n"


def test_steps_before_a_checkpoint_are_none_of_this_attempt():
    resumed = "  Continuing training from global step 120\n"
    end = END.format(160.0, 200 / 160, 4.0)
    assert parse_text((banner() + end).encode())["s_per_step"] == pytest.approx(0.8)
    assert parse_text((banner() + resumed + end).encode())["s_per_step"] == pytest.approx(2.0)
    unknown = parse_text((banner() + "Resuming from checkpoint\n" + end).encode())
    assert "s_per_step" not in unknown
    assert unknown["state"] == "completed"


def test_losses_that_begin_late_are_those_of_a_resumed_run():
    def text(first):
        return "".join(
            f"{{'loss': 1.5, 'epoch': {epoch:.2f}}}\n" for epoch in (first, first + 0.1, first + 0.2)
        ).encode()

    assert start_of(text(0.1)) == Start(resumed=False, step=None)
    assert start_of(text(1.2)) == Start(resumed=True, step=None)


def test_a_run_that_was_stopped_early_has_not_the_planned_steps():
    said = parse_text((banner() + END.format(100.0, 2.0, 1.5)).encode())
    assert said["state"] == "completed"
    assert "s_per_step" not in said
    assert said.get("steps_done") != 200


def test_losses_tell_more_than_a_bar_that_is_not_drawn_on():
    bar = "  9%|# | 18/200 [00:36<06:00,  2.00s/it]\n"
    said = parse_text((banner() + bar + "".join(losses(150, 50))).encode())
    assert said["steps_done"] == 150
    assert "wall_s" not in said  # the bar's
