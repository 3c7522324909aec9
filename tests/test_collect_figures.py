from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from factories_collect import make_cell, make_control, make_group, make_job, make_log, make_run
from factories_plan import plan_templates
from hypothesis import example, given
from hypothesis import strategies as st

from runplan.collect.curves import Curve
from runplan.collect.report import make_report, report_files, results_markdown
from runplan.collect.scale import scale, tick_step

SVG = "{http://www.w3.org/2000/svg}"
BOUNDS = st.floats(-1e9, 1e9)


@given(BOUNDS, BOUNDS)
@example(0.0, 5e-324)
@example(1e9, 1e9 + 1e-6)
@example(-5e-324, 0.0)
def test_a_scale_holds_its_values_between_round_ticks(one, other):
    low, high = sorted((one, other))
    made = scale(low, high, 100, 700)
    slack = 1e-6 * (made.high - made.low)
    assert made.low - slack <= low <= high <= made.high + slack
    assert -0.1 <= made.place(low) - 100 <= made.place(high) - 100 <= 600.1
    ticks = made.ticks()
    assert 2 <= len(ticks) <= 14
    assert [tick.x for tick in ticks] == sorted(tick.x for tick in ticks)


@given(st.floats(1e-6, 1e9))
def test_steps_are_one_two_or_five(extent):
    step = tick_step(extent, 5)
    digit = step / 10.0 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(digit - good) for good in (1, 2, 5)) < 1e-6
    assert 2 <= extent / step <= 5 + 1e-6


@pytest.mark.parametrize("extent", [0.0, -1.0, math.inf, math.nan])
def test_an_extent_of_nothing_has_a_step(extent):
    assert tick_step(extent, 5) == 1.0


def test_ticks_are_written_with_the_digits_they_need():
    assert [tick.text for tick in scale(0, 1, 0, 1).ticks()] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.text for tick in scale(-0.1, 0.1, 0, 1).ticks()] == ["-0.10", "-0.05", "0.00", "0.05", "0.10"]
    assert [tick.text for tick in scale(0, 40, 0, 1).ticks()] == ["0", "10", "20", "30", "40"]


def drawn(*runs, **more):
    report, files = report_files(make_report(make_group(*runs, **more)), plan_templates())
    return report, {path: ET.fromstring(text) for path, text in files.items() if path.endswith(".svg")}


def texts(root):
    return [element.text for element in root.iter(f"{SVG}text")]


def test_only_what_there_is_is_drawn():
    report, pictures = drawn(make_run(cells=[make_cell()], job=make_job()))
    assert [*pictures] == ["results/estimated_vs_actual.svg"]
    assert report.figures == ("estimated_vs_actual.svg",)
    text = results_markdown(report)
    assert "effects.svg" not in text
    assert "(results/estimated_vs_actual.svg)" in text


def test_a_training_above_its_p95_stands_out():
    _, pictures = drawn(make_run("late", job=make_job(seconds=100.0)), make_run("soon", job=make_job(seconds=50.0)))
    root = pictures["results/estimated_vs_actual.svg"]
    dots = [dot.get("fill") for dot in root.iter(f"{SVG}circle")]
    assert dots == ["#e45756", "#222222"]
    assert [text for text in texts(root) if text in {"late", "soon"}] == ["late", "soon"]


def test_every_replicate_is_a_dot_beside_their_mean():
    runs = [make_run(f"{s}", {"seed": s}, [make_cell(make_log((0.0, 1.0) if s == 1 else (1.0, 1.0)))]) for s in (1, 2)]
    _, pictures = drawn(*runs, make_control((0.0, 0.0)), factors={"seed": [1, 2]})
    circles = [*pictures["results/effects.svg"].iter(f"{SVG}circle")]
    places = [float(circle.get("cx")) for circle in circles]
    assert places[2] == pytest.approx((places[0] + places[1]) / 2, abs=0.1)


def test_large_groups_are_cut_and_say_so():
    names = [f"run{i}" for i in range(60)]
    curve = Curve(tuple((i, 5.0 / i) for i in range(1, 1000)), ((1, 4.0),))
    runs = [
        replace(make_run(name, {"lora.rank": i}, [make_cell(make_log((i / 60, 1.0)))]), curve=curve)
        for i, name in enumerate(names)
    ]
    _, pictures = drawn(*runs, make_control((0.0, 0.0)), factors={"lora.rank": list(range(60))})
    assert "… and 36 more" in texts(pictures["results/learning_curves.svg"])
    assert any("20 more rows are in results.csv" in text for text in texts(pictures["results/effects.svg"]))
    line = next(pictures["results/learning_curves.svg"].iter(f"{SVG}polyline"))
    assert len(line.get("points").split()) == 120


@pytest.mark.parametrize("name", ["<b>&\"'", "\x1b[31m\x00\n", "日本" * 40, "\udcff", "]]>"])
def test_hostile_names_are_text(name):
    curve = Curve(((1, 2.0), (2, 1.0)))
    run = replace(make_run(name, {"x": name}), curve=curve)
    _, pictures = drawn(run, make_control(), factors={"x": [name, ""]})
    assert len(pictures) == 3
    shown = texts(pictures["results/estimated_vs_actual.svg"])
    assert all(len(text) < 80 for text in shown)
