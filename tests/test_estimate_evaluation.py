"""The time of evaluation cells: by physics, and as logs of earlier evaluations teach it."""

import json
import math
import random
import statistics
from dataclasses import replace
from pathlib import Path

import pytest
from estimate_cases import A100, GPUS, H100, LLAMA_1B, LLAMA_3B, LLAMA_8B, MODELS
from hypothesis import given
from hypothesis import strategies as st

from runplan import tiny
from runplan.catalogue import gpus
from runplan.estimate.calibration import calibrate
from runplan.estimate.evaluation.cell_time import Evaluation, cell_time
from runplan.facts import Lengths
from runplan.paths import CONF_DIR
from runplan.priors.evaluated import PriorCell
from runplan.priors.read import read_priors

RECORDED = Path(__file__).parent / "data" / "evaluations" / "cells.json"
NOTHING = calibrate([], GPUS, MODELS)
TUNED_1B = Evaluation(LLAMA_1B, A100, Lengths(((50, 640),)), 256, 32, "quiz", "quiz/inspect.py", tuned=True)
LOG = PriorCell(
    "/x", "quiz", "quiz/inspect.py", {}, 640, 50.0, 640, 90.0, 60.0, 256, 32, ("1B",), tuned=True, gpu="a100-80",
    startup_s=40.0,
)  # fmt: skip


def learnt(*cells):
    return replace(NOTHING, cells=tuple(replace(cell, path=f"/{i}") for i, cell in enumerate(cells)))


def wide(cell):
    return cell.time_s.p95 / cell.time_s.p50


@given(st.integers(1, 2000), st.integers(1, 512), st.integers(1, 64))
def test_cells_take_longer_with_samples_answers_and_models(samples, max_tokens, batch):
    def of(model=LLAMA_1B, samples=samples, max_tokens=max_tokens):
        return cell_time(Evaluation(model, A100, Lengths(((50, samples),)), max_tokens, batch), NOTHING).time_s

    here = of()
    assert 0 < here.p50 < here.p95
    assert here.p50 < of(samples=samples + batch).p50
    assert here.p50 <= of(max_tokens=max_tokens + 2).p50
    assert here.p50 < of(model=LLAMA_3B).p50


@pytest.mark.parametrize("cells", [(), (LOG,)])
def test_no_samples_take_a_start_and_nothing_else(cells):
    nothing = cell_time(replace(TUNED_1B, lengths=Lengths(())), learnt(*cells)).time_s
    one = cell_time(replace(TUNED_1B, lengths=Lengths(((50, 1),))), learnt(*cells)).time_s
    assert 0 < nothing.p50 < one.p50


def test_more_together_is_faster():
    times = [cell_time(replace(TUNED_1B, batch_size=batch), NOTHING).time_s.p50 for batch in (1, 4, 16, 64)]
    assert times == sorted(times, reverse=True)


def test_large_models_are_bound_by_bandwidth():
    rows = Lengths(((50, 640),))
    slow, fast = (cell_time(Evaluation(LLAMA_8B, gpu, rows, 256, 64), NOTHING).time_s for gpu in (A100, H100))
    assert fast.p50 <= slow.p50


def test_a_short_answer_to_a_thousand_samples_takes_minutes():
    cell = cell_time(Evaluation(LLAMA_1B, A100, Lengths(((50, 1000),)), 64, 16), NOTHING)
    assert 30 < cell.time_s.p50 < 300
    assert (cell.logs, cell.evidence) == (0, "")


@given(st.floats(0.3, 3.0), st.sampled_from([LLAMA_1B, LLAMA_8B]), st.integers(1, 256))
def test_one_log_of_the_same_moves_the_estimate_and_narrows_it(slower, model, tokens):
    asked = replace(TUNED_1B, architecture=model)
    before = cell_time(asked, NOTHING)
    name = "1B" if model is LLAMA_1B else "8B"
    expected = cell_time(asked, learnt(replace(LOG, models=(name,), output_tokens=float(tokens)))).time_s.p50
    after = cell_time(asked, learnt(replace(LOG, models=(name,), output_tokens=float(tokens), seconds=90 * slower)))
    assert wide(after) <= 1.5 < wide(before)
    assert after.logs == 1
    assert after.evidence == "1 log of earlier evaluations (this task, model and GPU, fine-tuned)"
    assert (after.time_s.p50 > expected) == (slower > 1) or abs(slower - 1) < 1e-6


def test_many_logs_of_the_same_are_believed():
    cell = cell_time(TUNED_1B, learnt(*[LOG] * 8))
    assert cell.time_s.p50 == pytest.approx(130, rel=0.1)
    assert cell.time_s.p95 > 140
    assert cell.logs == 8


def test_logs_of_the_task_tell_how_long_answers_are():
    short, long = (cell_time(TUNED_1B, learnt(replace(LOG, seconds=None, output_tokens=n))) for n in (3.0, 240.0))
    assert short.time_s.p50 < 0.7 * long.time_s.p50
    assert short.evidence == "1 log of the same task, which tells its answers' length"
    # answers that ended by themselves do not get longer with what is allowed, cut ones do
    ended = learnt(*[replace(LOG, output_tokens=20.0, max_tokens=64)] * 4)
    cut = learnt(*[replace(LOG, output_tokens=64.0, max_tokens=64)] * 4)
    assert [cell_time(TUNED_1B, one).time_s.p50 for one in (ended, cut)] == sorted(
        cell_time(TUNED_1B, one).time_s.p50 for one in (ended, cut)
    )
    capped = cell_time(replace(TUNED_1B, max_tokens=2), cut)
    assert capped.time_s.p50 < cell_time(replace(TUNED_1B, max_tokens=64), cut).time_s.p50


def test_another_task_s_answers_say_nothing():
    other = cell_time(TUNED_1B, learnt(replace(LOG, function="riddle", output_tokens=1.0)))
    assert other.evidence.endswith("(0 of this task, model and GPU, fine-tuned); the length of its answers is a guess")
    assert wide(other) > 1.5


def test_a_base_model_says_less_of_a_tuned_one_s_answers():
    same, base = (cell_time(TUNED_1B, learnt(replace(LOG, tuned=tuned))) for tuned in (True, False))
    assert wide(base) > wide(same)


@pytest.mark.parametrize("changes", [{"gpu": "h100-80"}, {"models": ("8B",)}, {"function": "riddle"}, {"tuned": False}])
def test_less_similar_logs_leave_more_doubt(changes):
    same, other = cell_time(TUNED_1B, learnt(LOG)), cell_time(TUNED_1B, learnt(replace(LOG, **changes)))
    assert wide(same) < wide(other) <= wide(cell_time(TUNED_1B, NOTHING)) * 1.1
    crowd = cell_time(TUNED_1B, learnt(*[replace(LOG, **changes)] * 50))
    assert wide(crowd) > wide(cell_time(TUNED_1B, learnt(*[LOG] * 50))), "many alike err together"


def test_a_model_known_by_another_name_is_the_same():
    published = replace(NOTHING, models={"1B": replace(LLAMA_1B, max_position_embeddings=8192)}, cells=(LOG,))
    assert cell_time(TUNED_1B, published).evidence == cell_time(TUNED_1B, learnt(LOG)).evidence


def test_processors_and_gpus_never_mix():
    on_cpu = replace(LOG, gpu="cpu", output_tokens=None)
    assert cell_time(TUNED_1B, learnt(on_cpu)) == cell_time(TUNED_1B, NOTHING)
    cpu = replace(TUNED_1B, gpu=gpus([CONF_DIR])["cpu"])
    assert cell_time(cpu, learnt(replace(LOG, output_tokens=None))) == cell_time(cpu, NOTHING)


@pytest.mark.parametrize("changes", [{"models": ("unheard-of",)}, {"gpu": None}, {"seconds": None}])
def test_a_log_that_lacks_its_model_gpu_or_time_says_nothing_of_speed(changes):
    lacking = replace(LOG, output_tokens=None, startup_s=None, **changes)
    assert cell_time(TUNED_1B, learnt(lacking)) == cell_time(TUNED_1B, NOTHING)


def test_one_wild_log_among_many_bends_little():
    calm, wild = (cell_time(TUNED_1B, learnt(*[LOG] * 7, replace(LOG, seconds=s))) for s in (90.0, 90000.0))
    assert wild.time_s.p50 < 1.05 * calm.time_s.p50


@pytest.fixture(name="recorded", scope="module")
def _recorded(tmp_path_factory):
    """Cells that real jobs left, by group."""
    folder = tmp_path_factory.mktemp("recorded")
    for path, text in json.loads(RECORDED.read_text()).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    cells = read_priors([str(folder)], None, folder / ".cache", folder).cells
    return [(Path(cell.path).relative_to(folder).parts[0], cell) for cell in cells]


SMALL = replace(tiny.TINY, hidden_size=256, num_hidden_layers=8, num_attention_heads=8, num_key_value_heads=4,
                head_dim=32, intermediate_size=1024)  # fmt: skip
MADE = {"Tiny-Llama-3.2": tiny.TINY, "Small": SMALL}
KNOWN_GPUS = gpus([CONF_DIR])


def foretold(cell, known):
    """What would have been said of a recorded cell."""
    asked = Evaluation(MADE[cell.models[-1]], KNOWN_GPUS["cpu"], Lengths(((31, cell.samples),)), cell.max_tokens,
                       cell.batch_size, cell.function, cell.script, cell.tuned, cell.args)  # fmt: skip
    return cell_time(asked, replace(calibrate([], KNOWN_GPUS, MADE), cells=tuple(known))).time_s


def replayed(cells, number):
    """Errors (logarithm), whether p95 held, and widths, of each cell foretold by some of the others."""
    rng, errors, held, widths = random.Random(0), [], [], []
    for cell in cells:
        for _ in range(4):
            said = foretold(cell, rng.sample([other for other in cells if other is not cell], number))
            took = cell.seconds + cell.startup_s
            errors.append(abs(math.log(took / said.p50)))
            held.append(took <= said.p95)
            widths.append(said.p95 / said.p50)
    return statistics.median(errors), statistics.fmean(held), statistics.median(widths)


def test_recorded_cells_are_foretold_by_others(recorded):
    """24 cells of two models; three ran on a machine too busy to be foretold (start-up five times as long)."""
    assert len(recorded) == 24
    assert all(cell.seconds and cell.startup_s and cell.gpu == "cpu" for _, cell in recorded)
    quiet = [cell for group, cell in recorded if not group.startswith("busy")]
    blind, one, three, ten = (replayed(quiet, number) for number in (0, 1, 3, 10))
    assert one[0] < blind[0] / 2
    assert ten[0] <= three[0] <= one[0] + 0.02
    assert ten[0] < 0.15
    assert min(one[1], three[1], ten[1]) >= 0.9
    assert max(three[2], ten[2]) <= 1.5 < one[2] < 1.7 < blind[2]
    assert replayed([cell for _, cell in recorded], 3)[1] >= 0.8


def test_cells_of_a_group_are_foretold_by_an_earlier_group(recorded):
    first = [cell for group, cell in recorded if group == "taught"]
    for group, cell in recorded:
        if group == "loop":
            before, after = foretold(cell, ()), foretold(cell, first)
            took = cell.seconds + cell.startup_s
            assert abs(math.log(took / after.p50)) < abs(math.log(took / before.p50))
            assert took <= after.p95 < before.p95
