"""benchmarks/timings.py: what is said of seconds beside the steps before any log, held to what others published."""

import csv
import importlib
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = ("timings", "cases", "milabench", "published", "transformers_runs", "gpu", "gpu.grid", "gpu.shapes")


@pytest.fixture(name="timings")
def _timings(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("timings")
    for name in MODULES:
        sys.modules.pop(name, None)


def test_every_row_has_a_source_a_kind_and_whether_it_counts(timings):
    with timings.TABLE.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert all(row["source"] and row["source_ref"] and row["notes"] for row in rows)
    assert {row["counts"] for row in rows} == {"yes", "no"}
    assert {row["what"] for row in rows if row["counts"] == "yes"} == set(timings.SAID)
    assert all(float(row["seconds"]) > 0 and int(row["runs"]) > 0 for row in rows)
    assert all(float(row["least_s"]) <= float(row["seconds"]) <= float(row["most_s"]) for row in rows if row["least_s"])


@pytest.mark.parametrize(
    ("what", "rows", "bias", "off", "coverage"),
    [
        ("load", 16, 1.4, 2.3, 0.95),
        ("first step", 10, 1.1, 2.0, 0.9),
        ("save", 7, 1.35, 1.5, 0.85),
        ("decode step", 3, 1.15, 1.25, 1.0),
        ("answers", 1, 1.1, 1.1, 1.0),
        ("cell start-up", 2, 1.7, 1.7, 1.0),
    ],
)
def test_published_times_are_met_without_any_log(timings, what, rows, bias, off, coverage):
    some = [one for one in timings.told() if one.row["what"] == what]
    logs = [math.log(one.factor) for one in some]
    assert len(some) >= rows
    assert abs(statistics.fmean(logs)) < math.log(bias)
    assert statistics.median(map(abs, logs)) < math.log(off)
    assert statistics.fmean(one.seconds <= one.said.p95 for one in some) >= coverage


def test_p95_stays_above_nineteen_of_twenty_published_times(timings):
    found = timings.told()
    assert len(found) >= 39
    assert statistics.fmean(one.seconds <= one.said.p95 for one in found) >= 0.94


def test_the_page_says_what_the_table_says(timings):
    found = timings.told()
    page = (ROOT / "docs/estimate.md").read_text(encoding="utf-8")
    for what in timings.SAID:
        figures = timings.line([one for one in found if one.row["what"] == what]).split()[:-1]
        assert f"| {' | '.join([what, *figures])} |" in page


def test_the_table_has_a_line_for_each_kind_and_each_row():
    shown = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks/timings.py"), "--each"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    ).stdout.splitlines()
    assert shown[0].split() == ["what", "rows", "bias", "off", "covers", "p95/p50"]
    assert sum(not line.startswith(" ") for line in shown[1:]) == 6
    assert sum(int(line.split("%")[0].split()[-4]) for line in shown[1:] if not line.startswith(" ")) == len(
        [line for line in shown if line.startswith("  ")]
    )
