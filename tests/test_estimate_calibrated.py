import dataclasses

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_1B, LLAMA_3B, LLAMA_8B, MODELS, ROWS, workload
from hypothesis import example, given, settings
from hypothesis import strategies as st

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory import closed_form, process
from runplan.estimate.speed.step import planned_step
from runplan.estimate.workload import Adapter, Interval
from runplan.facts import Lengths
from runplan.priors.record import MemoryGib, PriorRun

NOTHING = calibrate([], GPUS, MODELS)
LOG = PriorRun(
    "logs/slurm-1.out",
    trainer="torchtune",
    model="Llama-3.2-1B-Instruct",
    lora_rank=8,
    lora_targets=("q_proj", "v_proj", "output_proj", "mlp"),
    batch_size=16,
    gradient_accumulation_steps=1,
    max_seq_len=2048,
    packed=False,
    dtype="bf16",
    activation_checkpointing=False,
    compile=False,
    gpu="a100-80",
    num_gpus=1,
    steps_done=500,
    s_per_step=0.4,
    startup_s=30.0,
    first_step_s=4.0,
    checkpoint_s=(60.0, 62.0),
)
LENGTHS = st.dictionaries(st.integers(8, 2048), st.integers(1, 2000), min_size=1, max_size=8).map(
    lambda counts: Lengths(tuple(sorted(counts.items())))
)
WORKLOADS = st.builds(
    workload,
    architecture=st.sampled_from([LLAMA_1B, LLAMA_3B, LLAMA_8B]),
    adapter=st.builds(Adapter, st.sampled_from([4, 8, 64]), st.just(("q_proj", "v_proj")), st.booleans()),
    gpu=st.sampled_from([A100, H100, dataclasses.replace(A100, name="l4-24", memory_gib=22.0)]),
    gpus=st.sampled_from([1, 2, 4]),
    lengths=LENGTHS,
    packed=st.booleans(),
    activation_checkpointing=st.booleans(),
    effective_batch_size=st.sampled_from([1, 4, 12, 16, 32, 128]),
    epochs=st.integers(1, 4),
)


@settings(max_examples=60)
@example(
    workload(
        architecture=LLAMA_8B,
        adapter=Adapter(64, ("q_proj", "v_proj"), apply_to_mlp=False),
        gpu=dataclasses.replace(A100, name="l4-24", memory_gib=22.0),
        lengths=Lengths(((8, 1),)),
        packed=True,
        activation_checkpointing=True,
        effective_batch_size=4,
    )
)
@given(WORKLOADS)
def test_the_chosen_batch_fits_and_twice_it_does_not_or_passes_the_effective_batch(w):
    plan = calibrated.size(w, NOTHING)
    limit = w.gpu.memory_gib
    batch, accumulation = plan.batch_size, plan.gradient_accumulation_steps
    assert batch & (batch - 1) == 0
    assert batch * accumulation * w.gpus == w.effective_batch_size or plan.evidence[-1].startswith("effective batch is")
    if plan.largest_batch_size:
        assert plan.needed_memory_gib.p95 <= limit
        assert calibrated.needed(w, NOTHING, plan.largest_batch_size + 1, 2).p95 > limit
        per_gpu = max(1, w.effective_batch_size // w.gpus)
        assert per_gpu % (2 * batch) or calibrated.needed(w, NOTHING, 2 * batch, 2).p95 > limit
    else:
        assert batch == 1
        assert plan.needed_memory_gib.p95 > limit
    for least, held in zip(plan.needed_memory_gib, plan.peak_memory_gib, strict=True):
        assert least <= held <= max(least, limit)


@settings(max_examples=40)
@given(WORKLOADS)
def test_intervals_are_ordered_and_time_is_the_sum_of_its_parts(w):
    plan = calibrated.size(w, NOTHING)
    for interval in (plan.time_s, plan.peak_memory_gib):
        assert 0 < interval.p50 <= interval.p95
    assert 0 < plan.allocated_gib < plan.peak_memory_gib.p50
    assert plan.time_s.p50 == pytest.approx(sum(plan.parts_s.values()), rel=0.25)
    assert plan.steps_total == plan.steps_per_epoch * w.epochs
    assert plan.source == "physics"
    assert plan.extrapolated


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 5))
def test_time_grows_with_epochs(fewer, more):
    one = calibrated.size(workload(epochs=fewer), NOTHING)
    two = calibrated.size(workload(epochs=fewer + more), NOTHING)
    assert one.time_s.p50 < two.time_s.p50
    assert one.steps_total < two.steps_total


def test_what_the_user_sets_is_kept():
    alone = calibrated.size(workload(batch_size=3), NOTHING)
    assert (alone.batch_size, alone.gradient_accumulation_steps) == (3, 1)
    both = calibrated.size(workload(batch_size=3, gradient_accumulation_steps=5), NOTHING)
    assert (both.batch_size, both.gradient_accumulation_steps) == (3, 5)
    accumulation = calibrated.size(workload(gradient_accumulation_steps=4), NOTHING)
    assert (accumulation.batch_size, accumulation.gradient_accumulation_steps) == (4, 4)
    odd = calibrated.size(workload(gradient_accumulation_steps=3), NOTHING)
    assert (odd.batch_size, odd.gradient_accumulation_steps) == (5, 3)
    assert "effective batch is 15" in odd.evidence[-1]


def test_a_run_too_big_for_its_gpu_still_gets_an_answer():
    small = dataclasses.replace(A100, name="t4-16", memory_gib=14.6)
    plan = calibrated.size(workload(architecture=LLAMA_8B, gpu=small), NOTHING)
    assert (plan.batch_size, plan.largest_batch_size) == (1, 0)
    assert plan.peak_memory_gib.p50 > 14.6


def test_without_rows_there_are_no_steps_but_an_answer():
    plan = calibrated.size(workload(lengths=Lengths(())), NOTHING)
    assert plan.steps_total == 0
    assert plan.time_s.p50 > 0


def test_where_rows_are_not_known_a_log_must_tell_how_long_its_own_were():
    w = workload(lengths=Lengths(()))
    silent = dataclasses.replace(LOG, packed=False, tokens_per_s=None, trained_tokens_per_s=None, peak_memory_gib=None)
    told = dataclasses.replace(silent, tokens_per_s=5000.0)
    assert [calibrated.size(w, calibrate([log], GPUS, MODELS)).n_priors for log in (silent, told)] == [0, 1]


def test_one_log_is_followed_and_narrows_all_parts():
    learnt = calibrate([dataclasses.replace(LOG, dataset="words.json")], GPUS, MODELS)
    planned = workload(dataset="/data/words.json")
    before, after = calibrated.size(planned, NOTHING), calibrated.size(planned, learnt)
    assert after.it_per_s == pytest.approx(2.5, rel=0.08)
    assert after.time_s.p95 / after.time_s.p50 < 1.3 < before.time_s.p95 / before.time_s.p50
    assert after.parts_s["startup"] == pytest.approx(30.0, rel=0.1)
    assert after.parts_s["checkpoints"] == pytest.approx(61.0, rel=0.1)
    assert (after.source, after.n_priors, after.extrapolated) == ("priors", 1, False)
    assert after.evidence[0].startswith("logs/slurm-1.out: Llama-3.2-1B-Instruct, a100-80, batch 16")


def test_a_log_of_perhaps_other_lengths_is_followed_half_way():
    planned = workload(dataset="/data/words.json")
    before = calibrated.size(planned, NOTHING).it_per_s
    same = calibrate([dataclasses.replace(LOG, dataset="words.json")], GPUS, MODELS)
    after = calibrated.size(planned, calibrate([LOG], GPUS, MODELS)).it_per_s
    assert calibrated.size(planned, same).it_per_s < after < before


def test_a_log_of_another_dataset_counts_little_and_one_of_the_same_counts_whatever_its_peak():
    planned = workload(dataset="/data/words.json")
    before = calibrated.size(planned, NOTHING).it_per_s

    def after(**changes):
        learnt = calibrate([dataclasses.replace(LOG, **changes)], GPUS, MODELS)
        return calibrated.size(planned, learnt).it_per_s

    same, unnamed, other = after(dataset="words.json"), after(), after(dataset="essays.json")
    assert same == pytest.approx(2.5, rel=0.08)
    assert same < unnamed < other < before
    step = planned_step(planned, 16, 1)
    peak = MemoryGib(allocated=calibrated.allocated_gib(planned, NOTHING, 16, round(step.tokens / 0.8), 1))
    assert after(dataset="words.json", peak_memory_gib=peak) == pytest.approx(same, rel=0.01)
    # The same name, but a peak that such rows cannot have: the file was another one then.
    assert after(dataset="words.json", peak_memory_gib=MemoryGib(allocated=60.0)) > 1.1 * same


def test_tokens_that_count_in_the_loss_tell_the_length_of_another_dataset_s_rows():
    planned = workload(dataset="/data/words.json")

    def tokens(**changes):
        log = dataclasses.replace(LOG, dataset="essays.json", s_per_step=0.8, **changes)
        used = calibrate([log], GPUS, MODELS).speed(A100, planned.lengths, planned.dataset).used[0]
        return used.step.tokens, used.tokens_sigma

    # 0.8 s a step of 16 rows: 900 tokens of a row count, more than 1,440 it can hardly have, and never more than 2,048.
    told, sigma = tokens(trained_tokens_per_s=900 * 16 / 0.8)
    assert 900 < told < 1500
    assert sigma < 0.42
    full, certain = tokens(trained_tokens_per_s=1900 * 16 / 0.8)
    assert 1900 <= full <= 2048
    assert certain == pytest.approx(0.05)
    assert tokens()[1] == pytest.approx(0.7)


def test_own_jobs_teach_start_up_first_step_and_saving():
    a, b = (dataclasses.replace(LOG, path=f"{i}.out", startup_s=90.0 + i, checkpoint_s=(20.0,)) for i in range(2))
    learnt = calibrated.size(workload(), calibrate([a, b], GPUS, MODELS)).parts_s
    assert learnt["startup"] == pytest.approx(90.0, rel=0.1)
    assert learnt["first_step"] == pytest.approx(4.0 - 0.4, rel=0.15)
    assert learnt["checkpoints"] == pytest.approx(20.0, rel=0.1)
    # Adapters alone are saved in no time; that says little of writing the whole model.
    quick = dataclasses.replace(LOG, checkpoint_s=(0.3,), save_adapter_weights_only=True)
    saves = calibrated.size(workload(), calibrate([quick], GPUS, MODELS)).parts_s["checkpoints"]
    assert saves > 10.0


@pytest.mark.parametrize(("ran", "heard"), [("torchtune", True), (None, True), ("axolotl", False), ("trl", False)])
def test_start_up_and_memory_are_learnt_from_logs_of_the_same_trainer(ran, heard):
    w = workload(packed=True)
    stays, freed = closed_form.allocated_parts_gib(w, 4, 2048)
    block = MemoryGib(allocated=stays + freed, reserved=stays + 1.4 * freed)
    told = {"trainer": ran, "startup_s": 400.0, "packed": True, "peak_memory_gib": block}
    logs = [dataclasses.replace(LOG, path=f"{i}.out", **told) for i in range(3)]
    usual, learnt = NOTHING, calibrate(logs, GPUS, MODELS)
    assert (learnt.overheads(A100) != usual.overheads(A100)) == heard
    assert (calibrated.peak(w, learnt, 4, 1) != calibrated.peak(w, usual, 4, 1)) == heard


def test_start_up_from_the_trainer_s_logger_counts_with_the_imports_before_it():
    usual = calibrated.size(workload(), NOTHING).parts_s["startup"]
    loaded = dataclasses.replace(LOG, startup_s=None, loading_s=usual - 8.0)
    learnt = calibrated.size(workload(), calibrate([loaded], GPUS, MODELS)).parts_s["startup"]
    assert learnt == pytest.approx(usual, rel=0.02)


def test_reserved_memory_of_logs_moves_what_the_allocator_loses():
    w = workload(packed=True)
    stays, freed = closed_form.allocated_parts_gib(w, 4, 2048)

    def peak(lost):
        held = stays + freed
        block = MemoryGib(allocated=held, reserved=held + lost * freed)
        logs = [dataclasses.replace(LOG, path=f"{i}", packed=True, peak_memory_gib=block) for i in range(3)]
        return calibrated.peak(w, calibrate(logs, GPUS, MODELS), 4, 1)

    low, usual, high = peak(0.03), calibrated.peak(w, NOTHING, 4, 1), peak(0.4)
    assert low.p50 < usual.p50 < high.p50
    assert high.p95 - high.p50 > low.p95 - low.p50


def test_processors_and_gpus_keep_their_overheads_apart():
    slow = dataclasses.replace(LOG, gpu="cpu", num_gpus=0, startup_s=500.0)
    learnt = calibrate([slow], GPUS, MODELS)
    assert calibrated.size(workload(), learnt).parts_s == calibrated.size(workload(), NOTHING).parts_s


def test_leaving_the_range_of_the_logs_is_said():
    learnt = calibrate([LOG], GPUS, MODELS)
    bigger = calibrated.size(workload(architecture=LLAMA_3B, activation_checkpointing=True), learnt)
    assert bigger.extrapolated
    assert any("3.21 B parameters, logs have 1.24 B" in line for line in bigger.evidence)
    elsewhere = calibrated.size(workload(gpu=H100), learnt)
    assert any("no log ran on h100-80" in line for line in elsewhere.evidence)
    narrow, wide = learnt.speed(A100, ROWS), learnt.speed(H100, ROWS)
    step = planned_step(workload(), 16, 1)
    moved = dataclasses.replace(step, gpu=H100)
    untaught = calibrate([], GPUS, MODELS)
    own = narrow.log_step_s(step)[1] / untaught.speed(A100, ROWS).log_step_s(step)[1]
    other = wide.log_step_s(moved)[1] / untaught.speed(H100, ROWS).log_step_s(moved)[1]
    assert own < other <= 1


def test_outliers_are_named():
    wrong = dataclasses.replace(LOG, path="wrong.out", packed=True, s_per_step=0.01)
    plan = calibrated.size(workload(), calibrate([LOG, wrong], GPUS, MODELS))
    assert any(line.startswith("wrong.out: left out") for line in plan.evidence)
    assert plan.n_priors == 1


def test_measured_memory_corrects_the_allocator_and_narrows():
    packed = dataclasses.replace(LOG, packed=True, s_per_step=2.0, batch_size=4)
    computed = calibrated.size(workload(packed=True, batch_size=4), NOTHING)
    peak = MemoryGib(allocated=computed.allocated_gib, reserved=1.08 * computed.allocated_gib)
    logs = [dataclasses.replace(packed, path=str(i), peak_memory_gib=peak) for i in range(5)]
    learnt = calibrated.size(workload(packed=True, batch_size=4), calibrate(logs, GPUS, MODELS))
    assert learnt.allocated_gib == pytest.approx(computed.allocated_gib, rel=1e-3)
    assert learnt.peak_memory_gib.p50 - 0.5 == pytest.approx(1.077 * computed.allocated_gib, rel=0.01)
    assert _ratio(learnt.peak_memory_gib) < _ratio(computed.peak_memory_gib)


def _ratio(interval: Interval) -> float:
    return interval.p95 / interval.p50


def test_validation_and_merged_checkpoints_cost_time():
    plain = calibrated.size(workload(), NOTHING)
    checked = calibrated.size(workload(validation_lengths=Lengths(((50, 500),))), NOTHING)
    adapters = calibrated.size(workload(save_adapter_weights_only=True), NOTHING)
    assert plain.parts_s["validation"] == 0 < checked.parts_s["validation"]
    assert adapters.parts_s["checkpoints"] < plain.parts_s["checkpoints"] / 3


@pytest.mark.parametrize(("packed", "least", "most"), [(True, 3.6, 4.0), (False, 1.8, 3.0)])
def test_more_gpus_are_faster_and_hold_less_each(packed, least, most):
    # Uneven rows: all GPUs wait for the longest (2.6 times the tokens/s on 4 H100 in batches of 4: milabench).
    changes = {"architecture": LLAMA_8B, "activation_checkpointing": True, "batch_size": 4, "packed": packed}
    one, four = (calibrated.size(workload(gpus=gpus, **changes), NOTHING) for gpus in (1, 4))
    assert least < four.tokens_per_s / one.tokens_per_s < most
    assert four.allocated_gib < one.allocated_gib


def test_what_a_processor_needed_says_nothing_about_a_gpu():
    on_cpu = dataclasses.replace(LOG, path="logs/cpu.out", gpu="cpu", num_gpus=0, s_per_step=40.0)
    w = workload()
    alone, beside = calibrated.size(w, NOTHING), calibrated.size(w, calibrate([on_cpu], GPUS, MODELS))
    assert (beside.n_priors, beside.it_per_s) == (0, alone.it_per_s)
    assert not any("cpu.out" in line for line in beside.evidence)


def test_a_log_that_tells_of_its_start_alone_is_not_called_useless():
    quick = dataclasses.replace(LOG, s_per_step=None, it_per_s=None, tokens_per_s=None)
    said = " ".join(calibrated.size(workload(), calibrate([quick], GPUS, MODELS)).evidence)
    assert "no earlier log counts for speed, but the start-up is learnt from 1 log:" in said
    assert "no earlier log counts:" in " ".join(calibrated.size(workload(), NOTHING).evidence)


def test_the_memory_that_is_needed_is_computed_once_and_says_the_same(monkeypatch):
    shapes, real = [], process.needed
    monkeypatch.setattr(
        process, "needed", lambda w, learnt, shape, out: (shapes.append(shape), real(w, learnt, shape, out))[1]
    )
    w = workload(effective_batch_size=16)
    plan = calibrated.size(w, NOTHING)
    shape = (plan.batch_size, plan.gradient_accumulation_steps)
    assert shapes.count(shape) == 1
    assert plan.peak_memory_gib == calibrated.peak(w, NOTHING, *shape)
    assert plan.needed_memory_gib == calibrated.needed(w, NOTHING, *shape)


def test_a_log_of_other_rows_whose_length_nothing_tells_says_nothing_about_launching_short_ones():
    short = workload(dataset="/data/words.json", lengths=Lengths(((16, 8000),)))
    before = calibrated.size(short, NOTHING)
    slow = dataclasses.replace(LOG, dataset="/data/essays.json", batch_size=8, s_per_step=0.5)
    after = calibrated.size(short, calibrate([slow], GPUS, MODELS))
    assert after.it_per_s == pytest.approx(before.it_per_s, rel=0.2)
    assert after.extrapolated
    assert "extrapolates: no log tells how long rows like these take" in after.evidence
    (line,) = [line for line in after.evidence if "essays" in line or "slurm-1" in line]
    assert "16 tokens assumed, length not stated (another dataset)" in line
    assert "reaches further" not in line
    words = calibrate([dataclasses.replace(slow, dataset="words.json")], GPUS, MODELS)
    assert calibrated.size(short, words).it_per_s < 0.5 * before.it_per_s


def test_logs_that_repeat_newer_ones_are_counted_out_loud():
    logs = [dataclasses.replace(LOG, path=f"{i}.out") for i in range(9)]
    said = calibrated.size(workload(), calibrate(logs, GPUS, MODELS)).evidence
    assert "4 logs repeat newer ones of the same setting: of each setting the newest 5 count" in said
    few = calibrated.size(workload(), calibrate(logs[:5], GPUS, MODELS)).evidence
    assert not any("repeat" in line for line in few)
