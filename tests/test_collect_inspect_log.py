from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.collect.inspect_log import number, parse_log

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["eval", "status", "results", "samples", "scores", "metrics", "reductions", "id", "value"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


def make(values=("C", "I", "C", "C"), *, epochs=1, **more):
    """A log with one scorer."""
    samples = [
        {"id": i, "epoch": epoch, "target": f"t{i}", "scores": {"match": {"value": value}}}
        for i, value in enumerate(values, 1)
        for epoch in range(1, epochs + 1)
    ]
    metrics = {"accuracy": {"name": "accuracy", "value": 0.75}, "stderr": {"name": "stderr", "value": 0.25}}
    results = {
        "total_samples": len(samples), "completed_samples": len(samples),
        "scores": [{"name": "match", "scorer": "match", "scored_samples": len(values), "metrics": metrics}],
    }  # fmt: skip
    head = {"version": 2, "status": "success", "eval": {"task": "words", "created": "2026-01-01T00:00:00+00:00"}}
    return head | {"results": results, "samples": samples} | more


def only(document):
    (score,) = parse_log(document).scores
    return score


def test_metrics_and_samples():
    log = parse_log(make())
    assert (log.task, log.status, log.total, log.completed, log.notes) == ("words", "success", 4, 4, ())
    (score,) = log.scores
    assert (score.name, score.metrics, score.stderr, score.n) == ("match", {"accuracy": 0.75}, 0.25, 4)
    assert [*score.samples.values()] == [1.0, 0.0, 1.0, 1.0]
    assert score.is_mean("accuracy")


def test_reductions_count_more_than_samples():
    reduced = [{"scorer": "match", "samples": [{"sample_id": i, "value": 0.5} for i in (1, 2)]}]
    score = only(make(reductions=reduced))
    assert score.samples == {("1", '"t1"'): 0.5, ("2", '"t2"'): 0.5}
    assert not score.is_mean("accuracy")


def test_repetitions_of_a_sample_are_averaged():
    document = make(epochs=2)
    document["samples"][0]["scores"]["match"]["value"] = "I"
    score = only(document)
    assert [*score.samples.values()] == [0.5, 0.0, 1.0, 1.0]


def test_a_sample_that_occurs_twice_makes_pairing_impossible():
    document = make()
    document["samples"].append(document["samples"][0])
    log = parse_log(document)
    assert log.scores[0].samples == {}
    assert log.scores[0].metrics == {"accuracy": 0.75}
    assert log.notes == ("samples repeat an id, so none can be paired",)


def test_a_scorer_of_several_values():
    names = ("style", "truth")
    values = {"style": 0.2, "truth": "C"}
    document = make()
    document["results"]["scores"] = [
        {"name": name, "scorer": "both", "metrics": {"mean": {"name": "mean", "value": 0.2}}} for name in names
    ]
    document["samples"] = [{"id": 1, "epoch": 1, "target": "t", "scores": {"both": {"value": values}}}]
    style, truth = parse_log(document).scores
    assert ([*style.samples.values()], [*truth.samples.values()]) == ([0.2], [1.0])


def test_two_reducers_of_one_scorer_have_two_names():
    document = make()
    entry = document["results"]["scores"][0]
    document["results"]["scores"] = [entry | {"reducer": "mean"}, entry | {"reducer": "max"}]
    document["reductions"] = [
        {"scorer": "match", "reducer": name, "samples": [{"sample_id": 1, "value": value}]}
        for name, value in (("mean", 0.5), ("max", 1.0))
    ]
    scores = parse_log(document).scores
    assert [(score.name, *score.samples.values()) for score in scores] == [("match", 0.5), ("match (max)", 1.0)]


def test_a_metric_that_is_no_mean_of_samples_is_no_mean():
    document = make()
    document["results"]["scores"][0]["metrics"]["f1"] = {"name": "f1", "value": 0.9}
    score = only(document)
    assert score.metrics == {"accuracy": 0.75, "f1": 0.9}
    assert not score.is_mean("f1")


def test_samples_that_failed_are_said():
    document = make()
    document["results"]["completed_samples"] = 3
    assert parse_log(document).notes == ("3 of 4 samples completed",)


def test_an_error_is_told_by_its_last_line():
    log = parse_log(make(status="error", error={"message": "Traceback\n  x\nValueError: no model"}))
    assert (log.status, log.error) == ("error", "ValueError: no model")


def test_a_log_that_its_owner_took_back_does_not_count():
    assert parse_log(make(invalidated=True)).status == "error"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("C", 1.0), ("I", 0.0), ("P", 0.5), ("N", 0.0), ("yes", 1.0), ("False", 0.0), ("0.25", 0.25), (True, 1.0)),
        *((3, 3.0), ("x", None), (None, None), ([1], None), (float("nan"), None), (10**400, None), ("inf", None)),
    ],
)
def test_scores_as_numbers(value, expected):
    assert number(value) == expected


@pytest.mark.parametrize("document", [None, [], {}, {"eval": {}}, {"status": "success"}, {"eval": [], "status": "x"}])
def test_what_is_no_log_is_refused(document):
    with pytest.raises(ValueError, match="no Inspect log"):
        parse_log(document)


@given(JSON, JSON, JSON)
@settings(max_examples=50)
def test_any_json_is_a_log_or_refused(results, samples, reductions):
    document = {"eval": {}, "status": "success", "results": results, "samples": samples, "reductions": reductions}
    log = parse_log(json.loads(json.dumps(document)))
    for score in log.scores:
        numbers = [*score.samples.values(), *filter(None, score.metrics.values())]
        assert all(isinstance(value, float) and math.isfinite(value) for value in numbers)
