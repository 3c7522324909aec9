import dataclasses
import itertools
import math
import random
from pathlib import Path

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_1B, LLAMA_3B, LLAMA_8B, MODELS, STEP
from test_estimate_calibrated import LOG as CALIBRATED_LOG

from runplan.estimate.logs.settings import canonical, match_model
from runplan.estimate.speed.gpu_constants import NOTHING, Constants, prior
from runplan.estimate.speed.observation import Observation, observe
from runplan.estimate.speed.posterior import OUTLIER, fit
from runplan.estimate.speed.roofline import step_s
from runplan.estimate.workload import Gpu
from runplan.priors.record import PriorRun

LOG = dataclasses.replace(CALIBRATED_LOG, model="torchtune.models.llama3_2.lora_llama3_2_1b", batch_size=4, packed=True)


def seen(step, seconds, noise=0.035, name="log"):
    run = dataclasses.replace(LOG, path=name, gpu=step.gpu.name)
    return Observation(run, step, seconds, noise, gpu_known=True, tokens_known=True)


def world(gpu, shift, step):
    """Step time on a cluster whose constants differ from the expected ones."""
    return step_s(step, Constants(*(a + b for a, b in zip(prior(gpu), shift, strict=True))))


def random_step(rng, gpu):
    model = rng.choice([LLAMA_1B, LLAMA_3B])
    tokens = float(rng.choice([64, 256, 1024, 2048]))
    return dataclasses.replace(
        STEP, gpu=gpu, architecture=model, batch=rng.choice([1, 2, 4, 8, 16]), tokens=tokens, span=tokens / 2
    )


def test_one_log_moves_the_estimate_to_it_and_narrows_it():
    before, wide = fit([], A100).log_step_s(STEP)
    truth = math.exp(before) * 1.3
    after, narrow = fit([seen(STEP, truth)], A100).log_step_s(STEP)
    assert math.exp(after) == pytest.approx(truth, rel=0.03)
    assert narrow < 0.06
    assert wide > 0.12
    assert math.exp(1.645 * narrow) < 1.3


def test_logs_of_the_same_gpu_count_more_than_those_of_another():
    def shift(gpu):
        step = dataclasses.replace(STEP, gpu=gpu)
        expected, _ = fit([], gpu).log_step_s(step)
        mean, spread = fit([seen(step, 1.3 * math.exp(expected))], A100).log_step_s(STEP)
        return mean - fit([], A100).log_step_s(STEP)[0], spread

    same, other = shift(A100), shift(H100)
    assert same[0] > other[0] > 0.02
    assert same[1] < other[1] < fit([], A100).log_step_s(STEP)[1]


def test_more_logs_never_widen():
    rng = random.Random(5)
    known, widths = [], []
    for i in range(12):
        step = random_step(rng, A100)
        seconds = world(A100, (0.1, -0.1, 0.3, 0.0, 0.2), step) * math.exp(rng.gauss(0, 0.03))
        known.append(seen(step, seconds, name=str(i)))
        widths.append(fit(known, A100).log_step_s(STEP)[1])
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(widths))
    assert widths[-1] < 0.06


def test_p95_holds_on_clusters_drawn_from_the_prior():
    rng = random.Random(11)
    inside, errors, n = 0, [], 150
    for _ in range(n):
        shift = tuple(rng.gauss(0, s) for s in (0.2, 0.2, 0.4, 0.4, 0.4))
        known = []
        for i in range(3):
            step = random_step(rng, A100)
            known.append(seen(step, world(A100, shift, step) * math.exp(rng.gauss(0, 0.04)), name=str(i)))
        asked = random_step(rng, A100)
        truth = world(A100, shift, asked) * math.exp(rng.gauss(0, 0.04))
        mean, spread = fit(known, A100).log_step_s(asked)
        inside += math.log(truth) <= mean + 1.645 * spread
        errors.append(abs(math.log(truth) - mean))
    assert inside / n >= 0.93
    assert sorted(errors)[n // 2] < 0.06


def test_logs_of_small_batches_teach_how_many_tokens_fill_a_gpu():
    slow = (0.0, 0.0, 0.0, 0.0, 0.8)
    of_3b = dataclasses.replace(STEP, architecture=LLAMA_3B, tokens=512.0, span=256.0)
    ran = [dataclasses.replace(of_3b, batch=batch) for batch in (1, 2, 4, 16, 32)]
    learnt = fit([seen(step, world(A100, slow, step), name=str(step.batch)) for step in ran], A100)
    assert learnt.constants(A100).filling > 0.05
    of_8b = dataclasses.replace(of_3b, architecture=LLAMA_8B, batch=2)
    untaught, taught = (math.exp(one.log_step_s(of_8b)[0]) for one in (fit([], A100), learnt))
    truth = world(A100, slow, of_8b)
    assert untaught < 0.91 * truth
    assert 0.95 * truth < taught < 1.02 * truth


def test_a_log_that_all_others_contradict_is_left_out_and_named():
    rng = random.Random(2)
    good = []
    for i in range(8):
        step = random_step(rng, A100)
        good.append(seen(step, world(A100, NOTHING, step), name=f"good{i}"))
    bad = seen(dataclasses.replace(STEP, batch=2), 12 * world(A100, NOTHING, STEP), name="bad")
    learnt = fit([*good, bad], A100)
    assert [(item.run.path, "times the step time" in why) for item, why in learnt.outliers] == [("bad", True)]
    assert learnt.log_step_s(STEP) == pytest.approx(fit(good, A100).log_step_s(STEP))
    assert OUTLIER > 3


def test_a_log_faster_than_its_gpu_is_left_out_and_named():
    found = observe(dataclasses.replace(LOG, s_per_step=0.05), MODELS, GPUS, A100)
    assert isinstance(found, Observation)
    assert "more than it can do" in found.outlier
    assert fit([found], A100).used == []


def test_logs_are_read_as_they_are():
    found = observe(LOG, MODELS, GPUS, H100)
    assert isinstance(found, Observation)
    assert found.step.gpu == A100
    assert (found.step.batch, found.step.tokens, found.seconds) == (4, 2048.0, 0.4)
    assert found.outlier == ""
    unknown = observe(dataclasses.replace(LOG, gpu=None), MODELS, GPUS, H100)
    assert isinstance(unknown, Observation)
    assert unknown.step.gpu == H100
    assert unknown.noise > 0.5 > found.noise


@pytest.mark.parametrize(
    "change",
    [
        {"s_per_step": None, "it_per_s": None},
        {"batch_size": None},
        {"batch_size": 0},
        {"model": "Mystery-3T", "params_b": None},
        {"model": None, "params_b": 400.0},
        {"recipe": "full_finetune_single_device"},
        {"dtype": "nf4"},
        {"s_per_step": float("nan")},
    ],
)
def test_logs_that_measure_nothing_are_no_observation(change):
    assert isinstance(observe(dataclasses.replace(LOG, **change), MODELS, GPUS, A100), str)


def test_tokens_of_a_log_come_from_its_throughput_or_its_peak():
    throughput = dataclasses.replace(LOG, packed=False, tokens_per_s=4000.0)
    found = observe(throughput, MODELS, GPUS, A100)
    assert isinstance(found, Observation)
    assert found.step.tokens == pytest.approx(400.0)
    silent = observe(dataclasses.replace(LOG, packed=False, max_seq_len=None), MODELS, GPUS, A100)
    assert isinstance(silent, Observation)
    assert not silent.tokens_known


@pytest.mark.parametrize(
    ("log", "catalogue"),
    [
        ("lora_llama3_2_1b", "Llama-3.2-1B-Instruct"),
        ("torchtune.models.llama3_2.lora_llama3_2_3b", "meta-llama/Llama-3.2-3B"),
        ("/scratch/models/Llama-3.1-8B-Instruct/", "Meta-Llama-3.1-8B"),
        ("qwen2_5_1_5b_instruct", "Qwen/Qwen2.5-1.5B-Instruct"),
        ("torchtune.models.qwen2_5.lora_qwen2_5_0_5b", "Qwen2.5-0.5B"),
        ("mistralai/Mistral-7B-v0.1", "Mistral-7B-Instruct-v0.3"),
        ("torchtune.models.mistral.lora_mistral_7b", "mistral-7B"),
        ("unsloth/Qwen3-4B-Instruct-2507", "Qwen/Qwen3-4B"),
        ("Qwen3-4B-Thinking-2507", "Qwen3-4B-Base"),
    ],
)
def test_names_of_one_model_are_the_same(log, catalogue):
    assert canonical(log) == canonical(catalogue)


def test_models_are_matched_by_size_only_at_last_and_within_bounds():
    assert match_model(PriorRun("x", model="1B"), MODELS) == (LLAMA_1B, True)
    assert match_model(PriorRun("x", model="unheard", params_b=1.3), MODELS) == (LLAMA_1B, False)
    assert match_model(PriorRun("x", model="unheard", params_b=2.0), MODELS) is None


def test_logs_of_processors_teach_about_processors_only():
    cpu = Gpu("cpu", 64.0, 40.0, 0.3, 0.3)
    tiny = dataclasses.replace(STEP, gpu=cpu, dtype="fp32", tokens=64.0, span=32.0)
    expected = math.exp(fit([], cpu).log_step_s(tiny)[0])
    learnt = fit([seen(tiny, 5 * expected)], cpu)
    assert math.exp(learnt.log_step_s(tiny)[0]) == pytest.approx(5 * expected, rel=0.1)
    assert learnt.log_step_s(STEP) == pytest.approx(fit([], A100).log_step_s(STEP))


def test_a_log_of_one_gpu_leaves_several_in_doubt_where_launches_decide():
    short = dataclasses.replace(STEP, batch=1, tokens=32.0, span=16.0)
    learnt = fit([seen(short, step_s(short, prior(A100)))], A100)
    (_, alone), (_, several) = learnt.log_step_s(short), learnt.log_step_s(dataclasses.replace(short, gpus=4))
    assert several > 0.3 > 3 * alone
    sharded = dataclasses.replace(short, gpus=4)
    taught = fit([seen(sharded, step_s(sharded, prior(A100)))], A100)
    assert taught.log_step_s(sharded)[1] < 0.1


def test_logs_that_scatter_widen_the_interval_and_the_median_stays_among_them():
    shapes = [
        dataclasses.replace(STEP, batch=batch, tokens=tokens) for batch in (2, 4, 8) for tokens in (512.0, 1024.0)
    ]
    expected = [math.exp(fit([], A100).log_step_s(shape)[0]) for shape in shapes]
    calm = fit([seen(shape, s) for shape, s in zip(shapes, expected, strict=True)], A100)
    noisy = fit(
        [seen(shape, s * 1.5 ** (-1) ** i) for i, (shape, s) in enumerate(zip(shapes, expected, strict=True))], A100
    )
    for shape, truth in zip(shapes, expected, strict=True):
        (_, narrow), (mean, wide) = calm.log_step_s(shape), noisy.log_step_s(shape)
        assert wide > 2 * narrow
        assert math.log(truth / 1.5) < mean < math.log(truth * 1.5)
    assert not noisy.outliers


def test_one_wild_log_is_left_out_and_does_not_widen_the_interval():
    shapes = [
        dataclasses.replace(STEP, batch=batch, tokens=tokens) for batch in (2, 4, 8) for tokens in (512.0, 1024.0)
    ]
    good = [seen(shape, math.exp(fit([], A100).log_step_s(shape)[0]), name=f"{i}") for i, shape in enumerate(shapes)]
    wild = seen(dataclasses.replace(STEP, batch=4, tokens=768.0), 3.0, name="wild")
    learnt = fit([*good, wild], A100)
    assert [log.run.path for log, _ in learnt.outliers] == ["wild"]
    assert learnt.log_step_s(STEP) == pytest.approx(fit(good, A100).log_step_s(STEP))


def test_nothing_here_needs_numpy():
    package = Path(__file__).parent.parent / "runplan" / "estimate"
    assert not [path.name for path in package.glob("*.py") if "import numpy" in path.read_text()]


def test_recipes_that_validate_are_not_taken_for_evaluations():
    for recipe in ("LoRAFinetuneValRecipeSingleDevice", "LoRAFinetuneValRecipeDistributed"):
        assert not isinstance(observe(dataclasses.replace(LOG, recipe=recipe), MODELS, GPUS, A100), str)
    said = observe(dataclasses.replace(LOG, recipe="EleutherEvalRecipe"), MODELS, GPUS, A100)
    assert said == "recipe EleutherEvalRecipe does not train adapters"


def test_one_log_far_from_physics_widens_no_further_than_to_itself_and_several_that_agree_are_believed():
    usual = math.exp(fit([], A100).log_step_s(STEP)[0])

    def p95(times, n):
        posterior = fit([seen(STEP, times * usual, name=f"log {i}") for i in range(n)], A100)
        mean, spread = posterior.log_step_s(STEP)
        return math.exp(mean) / usual, math.exp(mean + 1.645 * spread) / usual

    for times in (0.2, 3.0, 10.0, 100.0):
        middle, most = p95(times, 1)
        assert middle < most < 1.6 * max(1.0, times, 1 / times)
        assert most > times
        for n in (2, 3, 10):
            middle, most = p95(times, n)
            assert middle == pytest.approx(times, rel=0.15)
            assert most < 1.3 * times


def test_two_logs_that_contradict_each_other_are_both_allowed_for():
    usual = math.exp(fit([], A100).log_step_s(STEP)[0])
    posterior = fit([seen(STEP, usual, name="a"), seen(STEP, 8 * usual, name="b")], A100)
    mean, spread = posterior.log_step_s(STEP)
    assert math.exp(mean) < 1.2 * usual
    assert 8 * usual < math.exp(mean + 1.645 * spread) < 12 * usual


def test_several_odd_logs_of_unknown_gpus_say_nothing_against_physics():
    usual = math.exp(fit([], A100).log_step_s(STEP)[0])
    vague = [dataclasses.replace(seen(STEP, 30 * usual, noise=0.5, name=f"log {i}"), gpu_known=False) for i in range(2)]
    assert math.exp(fit(vague, A100).log_step_s(STEP)[0]) < 2.5 * usual
