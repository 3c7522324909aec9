"""Memory of the batches that recipes with validation run without gradients between two steps."""

import dataclasses
import random

import pytest
from estimate_cases import A100, GPUS, LLAMA_1B, LLAMA_8B, MODELS, workload
from hypothesis import given
from hypothesis import strategies as st
from simulated_allocator import differences, draws, recipe, sharded

from runplan.estimate import calibrated, calibration
from runplan.estimate.memory import closed_form, torchtune_step
from runplan.facts import Lengths

NO_LOGS = calibration.calibrate([], GPUS, MODELS)


def rows(tokens):
    return Lengths(((tokens, 100),))


def with_validation(tokens, **changes):
    return workload(validation_lengths=rows(tokens), **changes)


@pytest.mark.trainer
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("seed", "gpus"), [(5, 1), (6, 4)])
def test_closed_form_agrees_with_the_simulated_recipe(seed, gpus):
    one = draws.draw(random.Random(seed), layers=3)
    w = dataclasses.replace(one.workload, gpus=gpus, validation_lengths=rows(one.tokens))
    trace = (sharded if gpus > 1 else recipe).traced(w, one.batch, (16,), one.accumulation, (one.tokens,))
    computed = closed_form.validation_footprint_for(w).peak_bytes(one.batch, one.tokens)
    computed -= torchtune_step.workspace_bytes(w.gpu.name)
    assert computed == pytest.approx(recipe.peak_bytes(trace), rel=0.01), str(one)


@pytest.mark.trl
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("seed", [1008, 1009, 1012])
def test_closed_form_agrees_with_trl_on_what_nobody_chose(seed):
    one = draws.with_validation(draws.draw(random.Random(seed), "trl", layers=3))
    assert abs(differences.difference(one)) < 0.01, str(one)


@given(
    st.sampled_from([LLAMA_1B, LLAMA_8B]),
    st.integers(1, 32),
    st.integers(16, 4096),
    st.booleans(),
    st.sampled_from([1, 4]),
    st.sampled_from(["torchtune", "trl"]),
)
def test_without_gradients_no_batch_needs_more_than_training_on_it(a, batch, tokens, checkpointing, gpus, trainer):
    changes = {"activation_checkpointing": checkpointing, "gpus": gpus, "trainer": trainer}
    w = with_validation(tokens, architecture=a, **changes)
    validated = closed_form.validation_footprint_for(w).peak_bytes(batch, tokens)
    assert validated <= closed_form.footprint_for(w).peak_bytes(batch, tokens)


def sized(training, validation, trainer="torchtune"):
    w = with_validation(
        validation, trainer=trainer, architecture=LLAMA_8B, gpu=A100, lengths=rows(training), max_seq_len=32768,
        packed=False, activation_checkpointing=True,
    )  # fmt: skip
    return calibrated.size(w, NO_LOGS)


def said(sizing):
    return [line for line in sizing.evidence if "sets the peak" in line]


def test_rows_of_validation_that_are_far_longer_set_the_peak_and_the_batch():
    none, longer, far = sized(128, 128), sized(128, 200), sized(128, 16384)
    assert said(none) == []
    assert [line.split(" sets")[0] for line in said(longer) + said(far)] == ["memory: training", "memory: validation"]
    assert longer.needed_memory_gib == none.needed_memory_gib
    assert far.largest_batch_size < none.largest_batch_size
    assert far.needed_memory_gib.p50 > none.needed_memory_gib.p50
    assert far.needed_memory_gib.p95 <= A100.memory_gib
    assert "16384 tokens a row" in said(far)[0]
    assert far.peak_memory_gib >= far.needed_memory_gib


def test_rows_of_validation_set_the_peak_of_trl_too():
    none, far = (sized(128, rows, trainer="trl") for rows in (128, 16384))
    assert said(none) == []
    assert "validation sets the peak" in said(far)[0]
    assert far.largest_batch_size < none.largest_batch_size


def test_where_rows_are_packed_trl_makes_one_sequence_of_a_validated_batch():
    def growth(packed):
        w = with_validation(4096, trainer="trl", trainer_version="1.16.0", architecture=LLAMA_8B, packed=packed)
        form = closed_form.validation_footprint_for(w)
        one, two = (form.peak_bytes(batch, 4096) - form.fixed for batch in (32, 64))
        return two / one

    assert growth(packed=False) == pytest.approx(2, rel=0.05)
    assert growth(packed=True) == pytest.approx(4, rel=0.2)  # as the mask of every pair of tokens does


def test_no_validation_and_no_rows_to_validate_are_the_same():
    w = workload(architecture=LLAMA_8B, gpu=A100)
    assert closed_form.validation_footprint_for(w) is None
    assert closed_form.validation_footprint_for(dataclasses.replace(w, validation_lengths=Lengths(()))) is None
