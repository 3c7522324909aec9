from __future__ import annotations

import copy
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan import app
from runplan.config import Config
from runplan.sweep.compose import Composer
from runplan.sweep.ranges import check_ranges
from runplan.sweep.reading import read
from runplan.units import parse_slurm_time


def _defaults() -> Config:
    with app.started() as made:
        return read(Composer(made.config_loader, "runplan").base([]).config).config


DEFAULTS = _defaults()


def problems(**changes: Any) -> list[str]:
    config = copy.deepcopy(DEFAULTS)
    for key, value in changes.items():
        *groups, name = key.split("__")
        target: Any = config
        for group in groups:
            target = getattr(target, group)
        setattr(target, name, value)
    found = check_ranges(config)
    assert all(problem.where and problem.fix for problem in found)
    return [problem.where for problem in found]


def test_defaults_are_in_range() -> None:
    assert problems() == []


@pytest.mark.parametrize(
    ("key", "bad", "good"),
    [
        ("lora__rank", -4, 1),
        ("lora__rank", 0, 4),
        ("lora__alpha", 0.0, 0.5),
        ("lora__dropout", 1.0, 0.0),
        ("lora__dropout", -0.1, 0.5),
        ("lora__dropout", float("nan"), 0.5),
        ("lora__attn_modules", ["q_proj", "qproj"], ["v_proj"]),
        ("lora__attn_modules", ["o_proj"], ["output_proj"]),
        ("epochs", 0, 1),
        ("optimizer__lr", 0.0, 1e-9),
        ("optimizer__lr", -1e-4, 1.0),
        ("optimizer__lr", float("nan"), 1.0),
        ("optimizer__lr", float("inf"), 1.0),
        ("optimizer__num_warmup_steps", -1, 0),
        ("optimizer__lr_scheduler", "linear", "none"),
        ("batch_size", 0, 1),
        ("effective_batch_size", 0, 1),
        ("gradient_accumulation_steps", 0, 3),
        ("max_seq_len", 0, 1),
        ("packed", "yes", "auto"),
        ("packed", "on", True),
        ("prompt", "Capitalize the word", "Q: {input}"),
        ("dataset__train_fraction", 1.0, 0.99),
        ("dataset__train_fraction", 0.0, None),
        ("dataset__train_rows", 0, 1),
        ("resources__gpus", 0, 8),
        ("resources__mem", "64", "64G"),
        ("resources__mem", "lots", "64000M"),
        ("resources__mem", "0G", "1T"),
        ("resources__time", "45000", "12:30:00"),
        ("resources__time", "90", "01:30:00"),
        ("resources__time", "12:30", "00:12:30"),
        ("resources__time", "1h", "1-00:00:00"),
        ("resources__time", "99:99:99", "99:59:59"),
        ("resources__time", "01:60:00", "1-02:59"),
        ("resources__time", "1-00:61", "1-25"),
        ("resources__time", "1-10:00:75", "1-10:00:59"),
        ("resources__time_limit", "24:00:60", "24:00:00"),
        ("resources__time", "00:00:00", "00:00:01"),
        ("resources__time_limit", "1440", "UNLIMITED"),
        ("trainer__device", "tpu", "cpu"),
        ("trainer__log_every_n_steps", 0, 1),
        ("estimator__utilization", 1.1, 1.0),
        ("evaluation__limit", 0, None),
        ("budget__gpu_hours", 0.0, 0.1),
    ],
)
def test_bad_is_said_and_good_passes(key: str, bad: Any, good: Any) -> None:
    assert problems(**{key: bad}) == [key.replace("__", ".")]
    assert problems(**{key: good}) == []


def test_all_at_once() -> None:
    assert len(problems(epochs=0, lora__rank=-1, resources__time="90", prompt="x")) == 4


def test_batch_that_the_user_set_must_multiply_to_the_effective_batch() -> None:
    wrong = ["effective_batch_size"]
    assert problems(batch_size=4, gradient_accumulation_steps=4, effective_batch_size=16) == []
    assert problems(batch_size=4, gradient_accumulation_steps=3, effective_batch_size=16) == wrong
    assert problems(batch_size=4, gradient_accumulation_steps=2, resources__gpus=2, effective_batch_size=16) == []
    assert problems(batch_size=4, effective_batch_size=16) == []
    assert problems(batch_size=3, effective_batch_size=16) == wrong
    assert problems(gradient_accumulation_steps=3, effective_batch_size=16) == wrong
    assert problems(effective_batch_size=6, resources__gpus=4) == wrong
    assert problems(effective_batch_size=8, resources__gpus=4) == []
    assert problems(batch_size=4, gradient_accumulation_steps=3) == []
    assert problems(batch_size=3) == []


def test_no_adapters_at_all() -> None:
    assert problems(lora__attn_modules=[], lora__apply_to_mlp=False) == ["lora.attn_modules"]


def test_gpus_of_an_evaluation_are_asked_for_where_there_are_gpus() -> None:
    assert problems(evaluation__gpus=0) == ["evaluation.gpus"]
    assert problems(evaluation__gpus=2) == problems(resources__gpu="cpu") == []
    assert problems(evaluation__gpus=2, resources__gpu="cpu") == ["evaluation.gpus"]


def test_advice_for_a_time_that_is_a_number_alone() -> None:
    config = copy.deepcopy(DEFAULTS)
    config.resources.time = "45000"
    (problem,) = check_ranges(config)
    assert problem.fix == "write hours, minutes and seconds: 750:00:00 or 12:30:00"


@pytest.mark.parametrize("text", ["90:30", "12:30", "1:05"])
def test_advice_for_minutes_and_seconds_is_taken(text: str) -> None:
    config = copy.deepcopy(DEFAULTS)
    config.resources.time = text
    (problem,) = check_ranges(config)
    for advice in re.findall(r'"([\d:]+)"', problem.fix):
        assert problems(resources__time=advice) == []


@given(hours=st.integers(0, 99), minutes=st.integers(0, 59), seconds=st.integers(0, 59))
def test_full_times_pass_and_mean_themselves(hours: int, minutes: int, seconds: int) -> None:
    text = f"{hours:02}:{minutes:02}:{seconds:02}"
    expected = hours * 3600 + minutes * 60 + seconds
    assert problems(resources__time=text) == ([] if expected else ["resources.time"])
    assert parse_slurm_time(text) == expected


@given(st.text(max_size=8))
def test_any_text_as_time_or_memory_is_answered(text: str) -> None:
    problems(resources__time=text, resources__mem=text)
