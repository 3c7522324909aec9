"""Logs in Inspect's own format, written by Inspect itself."""

from __future__ import annotations

import json

import pytest

from runplan.collect import gather
from runplan.collect.inspect_log import parse_log

pytestmark = [pytest.mark.evaluation, pytest.mark.filterwarnings("ignore")]


def make_log():
    from inspect_ai.dataset import Sample  # noqa: F401 - the parts below need it loaded first
    from inspect_ai.log import (
        EvalConfig,
        EvalDataset,
        EvalLog,
        EvalMetric,
        EvalResults,
        EvalSample,
        EvalScore,
        EvalSpec,
    )
    from inspect_ai.scorer import Score

    spec = {"created": "2026-01-01T00:00:00+00:00", "task": "words", "dataset": EvalDataset(), "model": "hf/local"}
    samples = [
        EvalSample(id=i, epoch=1, input="a", target="A", scores={"match": Score(value=value)})
        for i, value in enumerate("CIC")
    ]
    metrics = {"accuracy": EvalMetric(name="accuracy", value=2 / 3)}
    results = EvalResults(
        total_samples=3, completed_samples=3, scores=[EvalScore(name="match", scorer="match", metrics=metrics)]
    )
    return EvalLog(status="success", eval=EvalSpec(**spec, config=EvalConfig()), results=results, samples=samples)


def test_both_formats_say_the_same(tmp_path):
    from inspect_ai.log import write_eval_log

    log = make_log()
    for name in ("a.eval", "a.json"):
        write_eval_log(log, str(tmp_path / name))
    zipped, plain = (gather._log(tmp_path / name, name) for name in ("a.eval", "a.json"))
    assert (zipped.problem, plain.problem) == ("", "")
    assert zipped.log == plain.log == parse_log(json.loads((tmp_path / "a.json").read_text()))
    assert [*zipped.log.scores[0].samples.values()] == [1.0, 0.0, 1.0]
    assert zipped.log.scores[0].is_mean("accuracy")


def test_a_damaged_archive_is_named(tmp_path):
    (tmp_path / "a.eval").write_bytes(b"PK\x03\x04 and no more")
    found = gather._log(tmp_path / "a.eval", "a.eval")
    assert found.log is None
    assert found.problem.startswith("cannot be read by Inspect (")
