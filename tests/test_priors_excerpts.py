"""Excerpts of public logs, each against what a person reads in it (tests/data/log_excerpts/expected.yaml)."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from runplan.priors.command import JSON_KEYS
from runplan.priors.parse import parse_text
from runplan.priors.record import MemoryGib

EXCERPTS = Path(__file__).parent / "data" / "log_excerpts"
EXPECTED: dict[str, dict[str, Any]] = yaml.safe_load((EXCERPTS / "expected.yaml").read_text())
GB = 1e9 / 2**30


def gib(value: float | str | None) -> float | None:
    if isinstance(value, str):
        return float(value.removeprefix("gb ")) * GB
    return value


def expected(name: str) -> dict[str, Any]:
    values = {"state": "unknown", **EXPECTED[name]}
    for key in ("peak_memory_gib", "init_memory_gib"):
        if key in values:
            values[key] = MemoryGib(*map(gib, values[key]))
    if "params_b" in values:
        values["params_b"] = pytest.approx(values["params_b"], abs=1e-6)
    if "s_per_step" in values:
        values["it_per_s"] = pytest.approx(1 / values["s_per_step"], rel=0.01)
        values["s_per_step"] = pytest.approx(values["s_per_step"], rel=0.01)
    return {key: value for key, value in values.items() if key not in {"source", "reason"}}


def said(data: bytes, name: str = "slurm-1.out") -> dict[str, Any] | None:
    fields = parse_text(data, name)
    if fields is None:
        return None
    return {key: fields[key] for key in JSON_KEYS if fields.get(key) not in {None, ()} and key != "reason"}


def test_every_excerpt_has_an_expectation_and_a_source():
    assert sorted(EXPECTED) == sorted(path.stem for path in EXCERPTS.glob("*.out"))
    assert all(one["source"] for one in EXPECTED.values())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_excerpt_says_what_a_reader_finds_in_it(name):
    data = (EXCERPTS / f"{name}.out").read_bytes()
    if EXPECTED[name].get("record") == "none":
        assert said(data) is None
        return
    assert said(data) == expected(name)
    reason = (parse_text(data) or {}).get("reason")
    assert (reason is not None) == ("reason" in EXPECTED[name]), reason
    assert EXPECTED[name].get("reason", "") in (reason or "")
