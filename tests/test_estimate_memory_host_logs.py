import dataclasses

import pytest
from estimate_cases import GPUS, LLAMA_3B, MODELS, workload
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.memory.host_logs import formula_gib, host_seen, most_host_memory

W = workload()
USED = dataclasses.replace(LOG, max_rss_gib=40.0)
KILLED = dataclasses.replace(LOG, state="host_oom", asked_mem_gib=32.0)


def needed(log, w=W):
    seen = most_host_memory(w, host_seen([log], MODELS))
    return seen and seen.needed_gib


def test_what_an_equal_run_used_and_what_was_too_little_is_asked_for_with_room():
    assert needed(USED) == pytest.approx(1.15 * 40)
    assert needed(KILLED) == pytest.approx(1.5 * 32)
    assert needed(dataclasses.replace(KILLED, max_rss_gib=60.0)) == pytest.approx(1.5 * 60)
    assert needed(dataclasses.replace(USED, asked_mem_gib=200.0)) == pytest.approx(1.15 * 40)
    assert needed(LOG) is None


def test_a_larger_model_needs_what_it_is_larger_besides():
    larger = workload(architecture=LLAMA_3B)
    assert needed(USED, larger) == pytest.approx(1.15 * 40 + formula_gib(larger) - formula_gib(W))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "Llama-3.2-3B-Instruct"},
        {"model": "gpt2"},
        {"trainer": "trl"},
        {"num_gpus": 4},
        {"dtype": "fp32"},
    ],
)
def test_runs_that_may_need_more_say_nothing(changes):
    assert needed(dataclasses.replace(USED, **changes)) is None


def test_merged_weights_say_nothing_about_saving_adapters_alone():
    adapters, alone = (
        workload(save_adapter_weights_only=True),
        dataclasses.replace(USED, save_adapter_weights_only=True),
    )
    assert needed(USED, adapters) is None
    assert needed(alone, adapters) == pytest.approx(1.15 * 40)
    assert needed(alone) == pytest.approx(1.15 * 40 + formula_gib(W) - formula_gib(adapters))


def test_evidence_names_the_log_that_asks_for_more_than_reckoned():
    learnt = calibrate([USED, dataclasses.replace(LOG, path="small.out", max_rss_gib=3.0)], GPUS, MODELS)
    assert learnt.host_memory_gib(W)[0] == pytest.approx(46.0)
    (line,) = [line for line in calibrated.size(W, learnt).evidence if "host memory" in line]
    assert line == "logs/slurm-1.out: 40.0 GiB of host memory were used; --mem is at least 46G"
    little = calibrate([dataclasses.replace(LOG, max_rss_gib=3.0)], GPUS, MODELS)
    assert little.host_memory_gib(W) == (formula_gib(W), "")
    killed = calibrate([KILLED, *(dataclasses.replace(USED, max_rss_gib=9.0, modified_s=9.0, path=f"{i}")
                                             for i in range(6))], GPUS, MODELS)  # fmt: skip
    assert "32.0 GiB of host memory were too little" in killed.host_memory_gib(W)[1]
