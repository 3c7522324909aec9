"""How long the batches of logs were: as their own plan counted, as the planned dataset has them, or as nobody knows."""

import dataclasses
import math

import pytest
from estimate_cases import A100, GPUS, MODELS, workload
from test_estimate_calibrated import LOG

from runplan.catalogue import gpus
from runplan.estimate.calibration import calibrate
from runplan.estimate.speed.gpu_constants import prior
from runplan.estimate.speed.observation import NOTED_SIGMA, observe
from runplan.estimate.speed.roofline import step_s
from runplan.estimate.speed.step import planned_step
from runplan.estimate.steps import padded_lengths
from runplan.estimate.workload import TRL
from runplan.facts import Lengths
from runplan.paths import CONF_DIR

ROWS = Lengths(tuple((tokens, 5) for tokens in range(40, 400)))
LONGER = Lengths(tuple((4 * tokens, rows) for tokens, rows in ROWS.counts))
NOTED = dataclasses.replace(LOG, packed=False, dataset="mine.json", padded_tokens=padded_lengths(ROWS))
CPU = gpus([CONF_DIR])["cpu"]


def seen(**changes):
    return observe(dataclasses.replace(NOTED, **changes), MODELS, GPUS, A100)


def test_a_log_has_the_lengths_that_its_plan_counted():
    one = seen(batch_size=4)
    assert (one.tokens_known, one.tokens_sigma) == (True, NOTED_SIGMA)
    for gpus_, wanted in ((1, 4), (2, 8)):  # all GPUs wait for the longest batch
        planned = planned_step(workload(lengths=ROWS, packed=False, gpus=gpus_), 4, 1)
        assert seen(batch_size=4, num_gpus=gpus_).step.tokens == pytest.approx(planned.tokens, abs=0.1)
        assert seen(batch_size=wanted).step.tokens == pytest.approx(planned.tokens, abs=0.1)
    assert seen(batch_size=4, max_seq_len=128).step.tokens == 128


def test_more_trained_tokens_than_are_noted_are_of_other_rows():
    per_s = NOTED.batch_size * NOTED.padded_tokens[-1] / NOTED.s_per_step
    assert seen(trained_tokens_per_s=0.5 * per_s).tokens_known
    assert not seen(trained_tokens_per_s=1.5 * per_s, peak_memory_gib=None).tokens_known


def test_rows_in_a_pack_attend_to_as_many_tokens_as_are_noted():
    short = Lengths(((40, 9),))
    packed = seen(packed=True, max_seq_len=2048, padded_tokens=padded_lengths(short))
    planned = planned_step(workload(lengths=short, packed=True, max_seq_len=2048), 4, 1)
    assert (packed.step.tokens, packed.step.span) == (planned.tokens, planned.span)
    assert seen(packed=True, max_seq_len=2048, padded_tokens=()).step.span > planned.span


@pytest.mark.parametrize(("batch", "packed"), [(1, False), (4, False), (1, True), (2, True)])
def test_a_log_of_trl_has_the_mask_that_its_plan_counts(batch, packed):
    one = seen(gpu="cpu", trainer=TRL, batch_size=batch, packed=packed, max_seq_len=256)
    w = workload(lengths=ROWS, packed=packed, max_seq_len=256, trainer=TRL)
    planned = planned_step(w, batch, 1)
    assert one.step.span == pytest.approx(planned.span * one.step.tokens / planned.tokens)


def test_rows_of_one_length_have_no_mask():
    same = padded_lengths(Lengths(((128, 40),)))
    assert seen(gpu="cpu", trainer=TRL, batch_size=4, padded_tokens=same).step.span == 64
    assert seen(gpu="cpu", trainer=TRL, batch_size=4, padded_tokens=(*same[:-1], 129.0)).step.span == 128


def test_logs_of_other_rows_tell_of_these_only_where_their_lengths_are_noted():
    w = workload(lengths=LONGER, packed=False, max_seq_len=2048, dataset="other.json")
    slow = 1.5 * step_s(seen(batch_size=32).step, prior(A100))
    log = dataclasses.replace(NOTED, batch_size=32, s_per_step=slow, it_per_s=1 / slow, gpu=A100.name, cpus=None)
    step = planned_step(w, 4, 1)
    before, _ = calibrate([], GPUS, MODELS).speed(w.gpu, w.lengths, w.dataset).log_step_s(step)

    def moved(run):
        mean, sigma = calibrate([run], GPUS, MODELS).speed(w.gpu, w.lengths, w.dataset).log_step_s(step)
        return mean - before, sigma

    (noted, narrow), (bare, wide) = moved(log), moved(dataclasses.replace(log, padded_tokens=()))
    assert noted == pytest.approx(math.log(1.5), abs=0.15)
    assert bare < noted
    assert narrow < wide


@pytest.mark.parametrize(("dataset", "least", "most"), [("mine.json", 0.6, 1.0), ("other.json", 0.5, 0.5)])
def test_nobody_knows_whether_the_lengths_of_other_rows_differ(dataset, least, most):
    run = dataclasses.replace(NOTED, gpu="cpu", dtype="bf16", cpus=1, padded_tokens=(), peak_memory_gib=None)
    (one,) = calibrate([run], GPUS | {"cpu": CPU}, MODELS).speed(CPU, ROWS, dataset).used
    assert least <= one.step.varied <= most
    assert seen(gpu="cpu").step.varied > 0.9
    assert seen(gpu="cpu", padded_tokens=(64.0,) * 7).step.varied < 0.01
    assert seen().step.varied == 0
