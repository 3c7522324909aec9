"""What jobs ask of SLURM."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runplan.config import Config, Resources
from runplan.jobs import requests


def config_with(**resources):
    made = Config()
    made.resources = Resources(gpu="a100-80", gpus=resources.pop("gpus", 1), **resources)
    return made


def test_what_the_user_set_stays():
    config = config_with(time="02:00:00", mem="10G", cpus_per_task=3)
    requests.fill_request(config, time_s=99999, mem_gib=200, limit_s=60)
    assert (config.resources.time, config.resources.mem, config.resources.cpus_per_task) == ("02:00:00", "10G", 3)


def test_training_on_the_cpu_asks_for_no_gpu():
    config = config_with(time="00:05:00")
    config.trainer.device = "cpu"
    assert requests.training_request(config, "x").gpus == 0
    config.trainer.device = "cuda"
    assert requests.training_request(config, "x").gpus == 1


def test_the_rest_comes_from_the_estimate():
    config = config_with(gpus=2)
    requests.fill_request(config, time_s=601, mem_gib=15.2, limit_s=None)
    request = requests.training_request(config, "1B_rank4")
    assert config.resources.time == "00:15:00"
    assert (request.time_s, request.mem_gib, request.cpus_per_task, request.gpus) == (900, 16, 8, 2)


def test_the_limit_is_asked_for_when_p95_is_above_it():
    assert requests.time_to_ask_s(4000, limit_s=3600) == 3600


@given(st.floats(1, 1e6))
def test_a_request_is_never_shorter_than_p95(p95):
    asked = requests.time_to_ask_s(p95, None)
    assert p95 <= asked + 1e-3
    assert asked % 300 == 0
    assert asked < p95 + 300


@pytest.mark.parametrize(
    ("gres", "gpus", "asked"),
    [
        ("gpu:a100:4", 1, "gpu:a100:1"), ("gpu:a100:4", 2, "gpu:a100:2"), ("gpu:4", 1, "gpu:1"), ("gpu", 1, "gpu:1"),
        ("gpu:a100", 1, "gpu:a100:1"), ("gpu:1g.10gb:4", 1, "gpu:1g.10gb:1"), ("gres/gpu=4", 2, "gres/gpu:2"),
        ("tmpdisk:100,gpu:a100:4", 1, "tmpdisk:100,gpu:a100:1"), ("gpu:a100:4", 4, "gpu:a100:4"),
        ("shard:4", 1, None), ("gpu:a:2,gpu:b:2", 1, None),
    ],
)  # fmt: skip
def test_a_cell_asks_for_gpus_of_the_trainings_type(gres, gpus, asked):
    request = requests.evaluation_request(config_with(gpus=4, gres=gres), "x", 100, 9.5, None, gpus)
    assert (request.gpus, request.gres, request.mem_gib, request.cpus_per_task) == (gpus, asked, 10, 4 * gpus)


def test_evaluation_where_there_are_no_gpus_asks_for_none():
    config = config_with()
    assert requests.evaluation_request(config, "x", 60.0, 4.0, None).gpus == 1
    config.resources.gpu = "cpu"
    assert requests.evaluation_request(config, "x", 60.0, 4.0, None).gpus == 0
