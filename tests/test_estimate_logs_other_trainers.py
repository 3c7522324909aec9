import dataclasses
import math

import pytest
from estimate_cases import A100, GPUS, MODELS
from test_estimate_speed_posterior import LOG

from runplan.estimate.evidence import _similarity
from runplan.estimate.logs.other_trainers import OTHER_KERNELS, OTHER_VERSION, TRANSFORMERS, heard_by
from runplan.estimate.logs.settings import CPU
from runplan.estimate.speed.observation import observe
from runplan.estimate.speed.posterior import fit


def seen(trainer, version=None):
    run = dataclasses.replace(LOG, trainer=trainer, trainer_version=version, tokens_per_s=20480.0)
    return observe(run, MODELS, GPUS, CPU)


@pytest.mark.parametrize(
    ("ran", "version", "planned", "more"),
    [
        ("torchtune", "0.5.0", "torchtune", 0.0),
        ("torchtune", "0.3.0", "torchtune", 0.0),
        ("torchtune", "0.2.1+cu121", "torchtune", OTHER_KERNELS),
        (None, None, "torchtune", 0.0),
        ("trl", "1.16.0", "trl", 0.0),
        ("trl", "0.9.0", "trl", OTHER_VERSION),
        ("axolotl", None, "trl", OTHER_VERSION),
        ("hf", None, "trl", OTHER_VERSION),
        ("torchtune", None, "trl", OTHER_KERNELS),
        ("hf", None, "torchtune", OTHER_KERNELS),
        ("unsloth", None, "trl", OTHER_KERNELS),
    ],
)
def test_a_log_of_other_code_says_less(ran, version, planned, more):
    log = seen(ran, version)
    assert heard_by(log, planned, "1.16.0").noise == pytest.approx(math.hypot(log.noise, more))


@pytest.mark.parametrize("trainer", sorted(TRANSFORMERS))
def test_logs_of_transformers_layers_are_steps_of_trl_s_kernels(trainer):
    assert seen(trainer).step.trainer == "trl"
    assert seen("unsloth").step.trainer == seen("torchtune").step.trainer == "torchtune"


def test_a_log_of_its_kin_moves_a_plan_of_trl_more_than_one_of_torchtune():
    step = seen("trl").step
    expected = fit([], A100).log_step_s(step)[0]

    def moved(trainer):
        log = seen(trainer, "1.16.0")
        slow = dataclasses.replace(log, seconds=1.5 * math.exp(fit([], A100).log_step_s(log.step)[0]))
        return fit([heard_by(slow, "trl", "1.16.0")], A100).log_step_s(step)[0] - expected

    assert moved("trl") > moved("axolotl") > moved("torchtune") > 0


def test_the_evidence_names_the_other_trainer():
    assert _similarity(seen("trl").step, seen("hf")) == "same GPU, but hf rather than trl"
    assert _similarity(seen("trl").step, seen("torchtune")) == "weak: torchtune runs other kernels than trl"
    assert _similarity(seen("trl").step, seen("trl", "1.16.0")) == "very similar"
