import dataclasses

import pytest
from estimate_cases import LLAMA_1B, LLAMA_3B, LLAMA_8B, QWEN_15B, workload

from runplan.errors import Problem
from runplan.estimate import rules
from runplan.estimate.workload import Gpu, Sizing
from runplan.facts import Lengths
from runplan.priors.record import MemoryGib, PriorRun

PRIOR = PriorRun(
    "ck-out-1/slurm-1.out",
    model="Llama-3.2-1B-Instruct",
    batch_size=1,
    it_per_s=4.34,
    init_memory_gib=MemoryGib(allocated=2.4),
    modified_s=100.0,
)
WORDS = Lengths(((40, 8000),))
"""10,000 words, 80 % of them for training."""
GPU = Gpu("a100-80", 80.0, 2039.0, 312.0, 19.5)
PLAN = workload(gpu=GPU, lengths=WORDS, batch_size=4, epochs=2, utilization=0.7)


def sized(changes=None, priors=(PRIOR,)):
    result = rules.size(dataclasses.replace(PLAN, **(changes or {})), priors)
    assert isinstance(result, Sizing)
    return result


def test_the_worked_case():
    plan = sized()
    assert plan.steps_per_epoch == 2000
    assert plan.time_s.p50 / 2 == pytest.approx(460, abs=1)
    assert -(-plan.time_s.p50 // 60) == 16
    assert plan.time_s.p95 == pytest.approx(1.5 * plan.time_s.p50)
    assert plan.largest_batch_size == 16
    assert sized({"architecture": LLAMA_3B, "model_name": "3B"}).largest_batch_size == 8


def test_without_a_batch_of_the_user_the_largest_is_taken_whatever_the_effective_batch():
    plan = sized({"batch_size": None, "effective_batch_size": 4})
    assert (plan.batch_size, plan.gradient_accumulation_steps) == (16, 1)
    assert plan.steps_per_epoch == 500


@pytest.mark.parametrize(
    ("model", "architecture", "slower", "larger"),
    [("3B", LLAMA_3B, 2.0, 2.5), ("Llama-2-7B", LLAMA_8B, 4.5, 5.0), ("8B", LLAMA_8B, 5.5, 5.0)],
)
def test_other_models_by_their_factors(model, architecture, slower, larger):
    one, other = sized(), sized({"model_name": model, "architecture": architecture})
    assert other.time_s.p50 == pytest.approx(slower * one.time_s.p50)
    assert other.peak_memory_gib.p50 == pytest.approx(larger * one.peak_memory_gib.p50)
    assert other.extrapolated
    assert not one.extrapolated


def test_qlora_has_no_factor_and_its_logs_are_its_own():
    quantised = {"adapter": dataclasses.replace(PLAN.adapter, quantize_base=True)}
    found = rules.size(dataclasses.replace(PLAN, **quantised), [PRIOR])
    assert isinstance(found, Problem)
    assert "no factor between LoRA and QLoRA" in found.what
    own = dataclasses.replace(PRIOR, path="qlora.out", quantize_base=True, modified_s=200.0)
    assert sized(quantised, (PRIOR, own)).evidence[0].startswith("qlora.out")
    assert sized({}, (PRIOR, own)).evidence[0].startswith(PRIOR.path)


def test_the_closest_model_then_the_newest_log_is_taken():
    newer = dataclasses.replace(PRIOR, path="new", it_per_s=5.0, modified_s=200.0)
    big = dataclasses.replace(PRIOR, path="big", model="8B", it_per_s=1.0, modified_s=300.0)
    assert sized(priors=(PRIOR, newer, big)).it_per_s == pytest.approx(5.0)
    assert sized({"model_name": "8B", "architecture": LLAMA_8B}, (PRIOR, newer, big)).it_per_s == pytest.approx(1.0)


def test_its_error_is_said():
    assert any("after model init" in line for line in sized().evidence)
    measured = dataclasses.replace(PRIOR, init_memory_gib=None, peak_memory_gib=MemoryGib(allocated=9.0))
    assert not any("after model init" in line for line in sized(priors=(measured,)).evidence)


def test_no_prior_and_other_models_are_problems_that_say_so():
    none = rules.size(PLAN, ())
    assert isinstance(none, Problem)
    assert "needs an earlier log" in none.what
    assert none.what.endswith("no log was read")
    qwen = rules.size(dataclasses.replace(PLAN, model_name="Qwen2.5-1.5B", architecture=QWEN_15B), (PRIOR,))
    assert isinstance(qwen, Problem)
    assert "no factor for Qwen2.5-1.5B" in qwen.what


def test_sizes_are_read_from_names_or_parameters():
    assert rules.size_class("lora_llama3_2_1b", None) == "1B"
    assert rules.size_class("Llama-3.3-70B", 70.6) is None
    assert rules.size_class("mine", LLAMA_1B.params / 1e9) == "1B"
    assert rules.size_class("mine", 2.0) is None
    assert rules.size_class(None, None) is None


def test_what_logs_lack_is_said():
    half = dataclasses.replace(PRIOR, it_per_s=None)
    one = rules.size(PLAN, (half,))
    assert isinstance(one, Problem)
    assert one.what.endswith("the only log read, ck-out-1/slurm-1.out, is without its speed")
    less = dataclasses.replace(half, path="a.out", batch_size=None, model="Qwen2.5-1.5B")
    quantised = dataclasses.replace(half, path="b.out", quantize_base=True, init_memory_gib=None)
    several = rules.size(PLAN, (less, quantised, half))
    assert isinstance(several, Problem)
    assert several.what.endswith(
        "none of the 3 logs read has all three: 3 without its speed, 1 without such a model, 1 without its batch size, "
        "1 without unquantised weights, 1 without a memory line; "
        "nearest to it is ck-out-1/slurm-1.out, without its speed"
    )
