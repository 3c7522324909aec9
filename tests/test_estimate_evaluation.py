from estimate_cases import A100, GPUS, H100, LLAMA_1B, LLAMA_3B, LLAMA_8B, MODELS
from hypothesis import given
from hypothesis import strategies as st

from runplan.estimate import calibrated
from runplan.estimate.evaluation import cell_time
from runplan.facts import Lengths

NOTHING = calibrated.calibrate([], GPUS, MODELS)


@given(st.integers(1, 2000), st.integers(1, 512), st.integers(1, 64))
def test_cells_take_longer_with_samples_answers_and_models(samples, max_tokens, batch):
    def of(model=LLAMA_1B, samples=samples, max_tokens=max_tokens, batch=batch):
        return cell_time(model, A100, Lengths(((50, samples),)), max_tokens, batch, NOTHING)

    here = of()
    assert 0 < here.p50 < here.p95
    assert here.p50 < of(samples=samples + batch).p50
    assert here.p50 < of(max_tokens=max_tokens + 1).p50
    assert here.p50 < of(model=LLAMA_3B).p50
    assert here.p50 <= of(batch=max(1, batch // 2)).p50


def test_large_models_are_bound_by_bandwidth():
    rows = Lengths(((50, 640),))
    slow, fast = (cell_time(LLAMA_8B, gpu, rows, 256, 64, NOTHING) for gpu in (A100, H100))
    assert fast.p50 <= slow.p50


def test_a_short_answer_to_a_thousand_samples_takes_minutes():
    cell = cell_time(LLAMA_1B, A100, Lengths(((50, 1000),)), 64, 16, NOTHING)
    assert 30 < cell.p50 < 300
