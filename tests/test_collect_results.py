from __future__ import annotations

import csv
import io

import pytest
from factories_collect import make_cell, make_control, make_group, make_log, make_run

from runplan.collect.effects import combinations, levels
from runplan.collect.inspect_log import Score
from runplan.collect.intervals import ALIKE, BOOTSTRAP, STUDENT
from runplan.collect.results import control_of, csv_text, record_of, rows

RIGHT = (1.0, 1.0, 1.0, 1.0)


def by_run(group):
    return {row.run: row for row in rows(group)}


def scored(name, factors, scores, **more):
    return make_run(name, factors, [make_cell(make_log(scores))], **more)


def test_a_run_is_compared_with_its_control_sample_by_sample():
    found = by_run(make_group(scored("a", {}, (0.0, 1.0, 1.0, 1.0)), make_control()))
    row = found["a"]
    assert (row.value, row.effect, row.control, row.note) == (0.75, 0.5, "1B_base", "")
    assert (row.interval.method, row.interval.n) == (BOOTSTRAP, 4)
    assert 0.0 <= row.interval.low < 0.5 < row.interval.high <= 1.0
    assert (found["1B_base"].effect, found["1B_base"].control) == (None, None)


def test_pairing_makes_the_interval_of_alike_runs_narrow():
    alike = by_run(make_group(scored("a", {}, (0.0, 1.0) * 20), make_control((0.0, 1.0) * 20)))["a"]
    assert (alike.effect, alike.interval.method) == (0.0, ALIKE)
    assert -0.1 < alike.interval.low < 0.0 < alike.interval.high < 0.1


def test_the_same_id_with_another_target_is_another_sample():
    log = make_log(RIGHT)
    moved = {(key[0], '"other"'): value for key, value in log.scores[0].samples.items()}
    other = make_log(RIGHT, scores=(Score("match", {"accuracy": 1.0}, 0.0, moved, 4),))
    row = by_run(make_group(make_run("a", cells=[make_cell(other)]), make_control()))["a"]
    assert (row.effect, row.interval, row.note) == (0.75, None, "no sample in common with its control")


def test_only_samples_that_both_have_count():
    row = by_run(make_group(scored("a", {}, (1.0, 1.0)), make_control((0.0, 0.0, 0.0, 1.0))))["a"]
    assert (row.effect, row.interval.n) == (1.0, 2)
    assert row.note == "on the 2 samples of 4 that it and its control have in common"


def test_a_metric_that_is_no_mean_has_an_effect_without_an_interval():
    log = make_log(scores=(Score("match", {"f1": 0.9}, None, {("1", "t"): 1.0}, 1),))
    base = make_log(scores=(Score("match", {"f1": 0.5}, None, {("1", "t"): 1.0}, 1),))
    control = make_run("base", cells=[make_cell(base, None)], type="control", recipe=None)
    row = by_run(make_group(make_run("a", cells=[make_cell(log)]), control))["a"]
    assert (row.effect, row.interval) == (pytest.approx(0.4), None)
    assert row.note == "not the mean of samples that can be paired"


def test_without_a_control_or_its_result_there_is_no_effect():
    alone = by_run(make_group(make_run("a")))["a"]
    assert (alone.effect, alone.control, alone.note) == (None, None, "it has no control")
    empty = make_control()
    empty = make_run("1B_base", cells=[make_cell(None, None)], type="control", recipe=None)
    waiting = by_run(make_group(make_run("a"), empty))["a"]
    assert (waiting.effect, waiting.control) == (None, "1B_base")
    assert waiting.note == "its control 1B_base has no result"


@pytest.mark.parametrize("key", ["model_path", "dataset", "system_prompt", "prompt"])
def test_the_control_of_another_model_dataset_or_prompt_is_none(key):
    run = make_run("a")
    other = make_control(config=run.entry["config"] | {key: "other"})
    assert control_of(run, run.cells[0].entry, [other]) is None


def test_a_task_with_data_of_its_own_has_one_control_beside_all_datasets():
    run = make_run("a")
    other = make_control(config=run.entry["config"] | {"dataset": "other"})
    assert control_of(run, run.cells[0].entry | {"takes_data": False}, [other]) is other


def test_of_two_controls_the_one_evaluated_alike_counts():
    short = make_control(name="short", factors={"evaluation.max_tokens": 8})
    long = make_control(name="long", factors={"evaluation.max_tokens": 64})
    run = make_run("a", {"lora.rank": 4, "evaluation.max_tokens": 64})
    assert control_of(run, run.cells[0].entry, [short, long]) is long


def test_only_the_last_planned_epoch_is_the_last():
    cells = [make_cell(make_log(), 0), make_cell(None, 1)]
    group = make_group(make_run("a", {"lora.rank": 4}, cells), make_control(), factors={"lora.rank": [4, 8]})
    assert [(row.epoch, row.last) for row in rows(group) if row.run == "a"] == [(0, False)]
    (four, eight) = levels(rows(group), group.document)
    assert (four.runs, four.planned, four.value, four.effect) == ((), 1, None, None), "epoch 0 does not stand in"
    assert (eight.runs, eight.planned) == ((), 0)


def test_the_table_has_all_factors_and_survives_hostile_names():
    hostile = 'a,"b"\n=1+1'
    run = scored(hostile, {"lora.rank": 4, "seed": 1}, RIGHT)
    group = make_group(run, make_control(), factors={"lora.rank": [4], "seed": [1]})
    (first, second) = csv.DictReader(io.StringIO(csv_text(rows(group), group.document["design"]["factors"])))
    assert (first["run"], first["lora.rank"], first["seed"], first["effect"]) == (hostile, "4", "1", "0.75")
    assert (second["run"], second["seed"], second["effect"], second["ci_low"]) == ("1B_base", "", "", "")


def test_records_have_six_digits_and_null_for_unknown():
    record = record_of(by_run(make_group(scored("a", {}, (1.0, 1.0, 0.0))))["a"])
    assert (record["value"], record["effect"], record["ci_low"], record["control"]) == (0.666667, None, None, None)


def replicated(effects, factors=("lora.rank", (4, 64))):
    """Runs of two levels and two seeds; each list of scores is one run, None a run without a result."""
    key, choices = factors
    runs, scores = [], iter(effects)
    for level in choices:
        for seed in (1, 2):
            one = next(scores)
            cells = [make_cell(make_log(one) if one else None)]
            runs.append(make_run(f"{level}_{seed}", {key: level, "seed": seed}, cells))
    return make_group(*runs, make_control(), factors={key: list(choices), "seed": [1, 2]})


HALF = (0.0, 0.0, 1.0, 1.0)


def test_replicates_are_pooled_by_students_t():
    group = replicated([HALF, HALF, RIGHT, HALF])
    low, high = combinations(rows(group), group.document)
    assert (low.factors, low.runs, low.planned, low.control) == ({"lora.rank": 4}, ("4_1", "4_2"), 2, "1B_base")
    assert (low.value.mean, low.value.replicates.low, low.value.replicates.high) == (0.5, None, None)
    assert (high.effect.mean, high.effect.n, high.effects) == (0.5, 2, (0.75, 0.25))
    assert high.effect.replicates.method == STUDENT
    assert high.effect.replicates.high - high.effect.mean == pytest.approx(12.706205 * 0.25)


def test_replicates_that_agree_are_still_uncertain_about_other_samples():
    group = replicated([HALF, HALF, RIGHT, RIGHT])
    _, high = combinations(rows(group), group.document)
    assert (high.effect.replicates.low, high.effect.replicates.high) == (None, None)
    assert high.effect.samples.low < 0.75 < high.effect.samples.high


def test_a_replicate_that_is_missing_is_counted_and_not_averaged_away():
    group = replicated([HALF, None, RIGHT, HALF])
    low, _ = combinations(rows(group), group.document)
    assert (low.runs, low.planned) == (("4_1",), 2)
    assert (low.value.replicates, low.effect.replicates, low.effect.samples.method) == (None, None, BOOTSTRAP)
    first, second = levels(rows(group), group.document)
    assert (len(first.runs), first.planned, second.pairs) == (1, 2, 1)
    assert second.contrast.mean == 0.5, "the one pair with the same seed, not the means of unequal sets"
    assert (second.contrast.replicates, second.contrast.samples.method) == (None, BOOTSTRAP)


def test_levels_are_compared_with_the_first_over_runs_that_differ_in_nothing_else():
    group = replicated([HALF, HALF, RIGHT, HALF])
    first, second = levels(rows(group), group.document)
    assert (first.level, first.contrast, first.pairs) == (4, None, 0)
    assert (second.value, second.effect.mean, second.contrast.mean, second.pairs) == (0.75, 0.5, 0.25, 2)
    assert second.contrast.replicates.method == STUDENT


def test_without_replicates_levels_are_compared_sample_by_sample():
    runs = [scored(f"{rank}", {"lora.rank": rank}, scores) for rank, scores in ((4, HALF), (64, RIGHT))]
    group = make_group(*runs, make_control(), factors={"lora.rank": [4, 64]})
    _, second = levels(rows(group), group.document)
    assert (second.contrast.mean, second.contrast.replicates) == (0.5, None)
    assert (second.contrast.samples.method, second.contrast.samples.n) == (BOOTSTRAP, 4)


def test_seeds_with_unequal_numbers_of_runs_have_no_interval_over_replicates():
    group = replicated([HALF, HALF, RIGHT, None])
    runs = [*group.runs[:-1], scored("8_1", {"lora.rank": 4, "x": 1, "seed": 1}, RIGHT), group.runs[-1]]
    group = make_group(*runs, factors=group.document["design"]["factors"])
    first, _ = levels(rows(group), group.document)
    assert (first.effect.replicates, first.effect.n) == (None, 3)


def test_models_are_levels_with_controls_of_their_own():
    small, large = {"model_path": "/s"}, {"model_path": "/l"}
    shared = make_run("x").entry["config"]
    runs = [
        scored("1B", {"model": "1B"}, HALF, config=shared | small, model="1B"),
        scored("3B", {"model": "3B"}, RIGHT, config=shared | large, model="3B"),
        make_control((0.0,) * 4, "1B_base", config=shared | small, factors={"model": "1B"}),
        make_control((1.0,) * 4, "3B_base", config=shared | large, factors={"model": "3B"}),
    ]
    group = make_group(*runs, factors={"model": ["1B", "3B"]})
    first, second = levels(rows(group), group.document)
    assert (first.effect.mean, second.effect.mean, second.contrast.mean) == (0.5, 0.0, 0.5)
