import dataclasses

import pytest
from estimate_cases import A100, GPUS, H100, MODELS, workload
from test_estimate_calibrated import LOG

from runplan.estimate import calibrated
from runplan.estimate.calibration import calibrate
from runplan.estimate.logs.settings import variants

A100_40 = dataclasses.replace(A100, name="a100-40", memory_gib=39.5, memory_bandwidth_gb_per_s=1555.0)
SLICE = dataclasses.replace(A100, name="a100-mig-20", memory_gib=19.5)
ALL = {**GPUS, "a100-40": A100_40, "a100-mig-20": SLICE}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a100", ["a100-80", "a100-40"]),
        ("nvidia_a100", ["a100-80", "a100-40"]),
        ("NVIDIA H100", ["h100-80"]),
        ("mi250", []),
        ("a1000", []),
        ("", []),
        (None, []),
    ],
)
def test_a_name_means_whole_cards(name, found):
    assert [gpu.name for gpu in variants(name, ALL)] == found


def size(log, gpu=A100):
    w = workload(dataset="/data/words.json", gpu=gpu)
    return calibrated.size(w, calibrate([log], ALL, MODELS))


def test_a_log_that_leaves_its_memory_open_counts_nearly_as_one_of_the_planned_card():
    log = dataclasses.replace(LOG, dataset="words.json", s_per_step=0.35)
    certain, family, unknown, other = (
        size(dataclasses.replace(log, gpu=gpu)) for gpu in ("a100-80", "a100", None, "h100")
    )
    assert certain.it_per_s < family.it_per_s < unknown.it_per_s
    assert certain.it_per_s == pytest.approx(family.it_per_s, rel=0.2)
    wide = [one.time_s.p95 / one.time_s.p50 for one in (certain, family, unknown)]
    assert wide[0] < wide[1] < wide[2]
    assert (family.extrapolated, other.extrapolated) == (False, True)
    assert not any("not stated, batch" in line for line in family.evidence)
    assert any("weak: another GPU than a100-80" in line for line in other.evidence)


def test_a_slice_is_not_what_a_name_of_whole_cards_means():
    assert size(dataclasses.replace(LOG, gpu="a100"), SLICE).extrapolated


def test_a_log_of_a_family_that_contradicts_physics_is_left_out():
    wrong = dataclasses.replace(LOG, gpu="a100", packed=True, s_per_step=0.01)
    assert any("left out" in line for line in size(wrong, H100).evidence)
