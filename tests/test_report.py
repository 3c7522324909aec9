"""report.html as text: every number within its scale, nothing fetched, nothing obeyed that a user wrote."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from factories_plan import make_plan, make_sizing
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.files.document import plan_document
from runplan.files.render import environment
from runplan.paths import TEMPLATES_DIR
from runplan.report.charts import key_of, memory_chart, tick_time, time_chart
from runplan.report.page import report
from runplan.summary.readme import RESULTS_END, RESULTS_START, carry_results

HOSTILE = ['<script>alert("x")</script>', "a'; echo x", "&amp;", "\x1b[31m\u202e", RESULTS_START]


def page(plan):
    return report(plan_document(plan), plan.directory, environment(TEMPLATES_DIR))


class Reader(HTMLParser):
    """Tags in order, what they refer to, and the text people see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.refers, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.refers += [value for key, value in attrs if key in {"src", "href", "action"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def test_the_page_is_well_formed_and_needs_nothing_else():
    read = Reader(page(make_plan()))
    assert read.open == []
    assert set(read.refers) == {"plan.json", "README.md"}
    assert not {"script", "link", "img", "iframe"} & set(read.tags)
    assert "url(" not in page(make_plan())


def test_it_says_what_the_summary_says():
    text = " ".join(Reader(page(make_plan())).text)
    for word in ("2×2 Factorial Design", "1B_rank4", "3B_base", "hf download", "p95 of the time is 26 min", "priors"):
        assert word in text


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_what_users_write_is_shown_and_not_obeyed(value):
    plan = make_plan(group=value)
    plan = replace(plan, command=value, runs=tuple(replace(run, name=f"{value}{run.name}") for run in plan.runs))
    text = page(plan)
    read = Reader(text)
    assert "script" not in read.tags
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert text.count(RESULTS_START) == 1
    if value.isprintable():
        assert value in " ".join(read.text)


def test_results_survive_another_plan():
    old = page(make_plan()).replace(f"{RESULTS_START}\n", f"{RESULTS_START}\n<p>0.97</p>\n")
    assert "<p>0.97</p>" in carry_results(old, page(make_plan(group="other")))
    assert old.index(RESULTS_START) < old.index("<p>0.97</p>") < old.index(RESULTS_END)


@settings(max_examples=60)
@given(
    st.floats(0.1, 500), st.floats(1, 4), st.one_of(st.none(), st.integers(60, 10**6)), st.floats(1, 300),
    st.sampled_from([None, 1, 8]),
)  # fmt: skip
def test_everything_drawn_lies_on_the_scale(scale, spread, limit_s, gpu, cells):
    plan = make_plan(sizes={"time_s": make_sizing(scale).time_s._replace(p95=600 * scale * spread)})
    runs = tuple(
        replace(run, time_limit_s=limit_s, cells=run.cells * (cells or 0)) for run in plan.runs if run.sizing or cells
    )
    document = plan_document(replace(plan, runs=runs))
    for run in document["runs"]:
        run["limits"]["gpu_memory_gib"] = gpu
    for chart in (time_chart(document), memory_chart(document)):
        assert [bar.label for bar in chart.bars]
        for bar in chart.bars:
            assert all(part.start >= 0 and part.width > 0 for part in bar.parts)
            assert sum(part.width for part in bar.parts) <= 100.05
            assert all(0 <= mark.at <= 100.05 for mark in bar.marks)
        places = [at for at, _ in chart.ticks]
        assert places == sorted(places)
        assert 1 <= len(places) <= 7


def test_a_limit_far_away_is_told_and_not_drawn():
    plan = make_plan()
    plan = replace(plan, runs=tuple(replace(run, time_limit_s=10 * 86400) for run in plan.runs))
    chart = time_chart(plan_document(plan))
    assert "10d" in chart.note or "240h" in chart.note
    assert not [mark for bar in chart.bars for mark in bar.marks if mark.kind == "limit"]


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0, "0"), (45, "45s"), (60, "1min"), (90, "1min30"), (1800, "30min"), (3600, "1h"), (5400, "1h30"), (36000, "10h"),
     (86400, "24h"), (172800, "2d"), (216000, "2d12h"), (2592000, "30d")],
)  # fmt: skip
def test_ticks_are_short(time_s, text):
    assert tick_time(time_s) == text


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1, 20, 400, 5e4])
def test_the_axis_of_any_time_has_few_ticks(scale):
    sizing = make_sizing(1)
    plan = make_plan(sizes={"time_s": sizing.time_s._replace(p50=600 * scale, p95=900 * scale)})
    document = plan_document(plan)
    for run in document["runs"]:
        run["cells"], run["resources"]["time"], run["limits"]["time"] = [], None, None
    chart = time_chart(document)
    assert 1 <= len(chart.ticks) <= 7
    assert len({text for _, text in chart.ticks}) == len(chart.ticks)
    assert chart.legend == (("p50", "training, median"), ("p95", "up to p95"), ("evals", "its evaluations"))


def many(number):
    plan = make_plan()
    runs = [plan.runs[i % len(plan.runs)] for i in range(number)]
    named = (replace(run, name=f"{run.config.model.name}_rank{i}") for i, run in enumerate(runs))
    return replace(plan, runs=tuple(named))


def test_many_runs_are_put_away_by_model_and_all_of_them_are_there():
    plan = many(500)
    chart = time_chart(plan_document(plan))
    assert [(rows.summary.label, len(rows.bars)) for rows in chart.groups] == [("1B", 251), ("3B", 249)]
    for rows in chart.groups:
        (part,) = rows.summary.parts
        assert part.start >= 0
        assert part.start + part.width <= 100.05
        assert rows.summary.text.startswith(f"{len(rows.bars)} runs, ")
    text = page(plan)
    read = Reader(text)
    assert read.open == []
    assert all(f'class="label">{run.name}<' in text for run in plan.runs)
    assert len(text.encode()) < 1_000_000
    assert "500 rows" in " ".join(read.text)
    assert time_chart(plan_document(many(60))).groups == ()


def test_runs_are_known_by_words_that_css_takes():
    names = [*HOSTILE, *(run.name for run in many(500).runs), "\ud800"]
    keys = {key_of(name) for name in names}
    assert len(keys) == len(names)
    assert all(re.fullmatch("r[0-9a-f]{10}", key) for key in keys)


def test_a_bar_says_what_its_estimate_is_made_of():
    document = plan_document(make_plan())
    run = document["runs"][0]
    parts = {"first_step": 12.0, "steps": 500.0, "validation": 0.3, "compile": None}
    run["estimate"] |= {"parts_s": parts, "extrapolated": True, "evidence": [f"log {i}" for i in range(7)]}  # fmt: skip
    bar = time_chart(document).bars[0]
    assert bar.details == (
        "Median: first step 12s, steps 9min.",
        "priors: physics, corrected by your logs; 3 logs, extrapolated.",
        "log 0", "log 1", "log 2", "log 3", "log 4", "… and 2 more in plan.json.",
    )  # fmt: skip
    run["estimate"] |= {"source": "physics", "n_priors": 0, "evidence": [], "extrapolated": False}
    assert time_chart(document).bars[0].details[1:] == ("physics; no log of yours.",)
    del run["estimate"]["parts_s"]
    assert time_chart(document).bars[0].details[0].startswith("physics"), "as older plans are"
    assert time_chart(document).bars[-1].details == (), "nothing is trained"


def test_times_that_are_unknown_or_nothing_are_said():
    document = plan_document(make_plan())
    first, second, *_, last = document["runs"]
    first["cells"] = [{**first["cells"][0], "time_s": {"p50": None, "p95": None}}, *first["cells"]]
    second["cells"][0]["time_s"] = {"p50": None, "p95": None}
    last["cells"][0]["time_s"] = {"p50": 0.0, "p95": 0.0}
    chart = time_chart(document)
    assert "2 evaluations 1min and 1 of unknown time" in chart.bars[0].text
    assert "1 evaluation of unknown time" in chart.bars[1].text
    assert "not shown: 1 of 6 runs" in chart.note
    for run in document["runs"]:
        run["cells"], run["estimate"] = [], run["estimate"] | {"time_s": {"p50": None, "p95": None}}
    assert time_chart(document) is None


def test_a_plan_of_controls_alone_has_no_memory_to_show():
    plan = make_plan()
    only = replace(plan, runs=tuple(run for run in plan.runs if run.sizing is None))
    assert memory_chart(plan_document(only)) is None
    assert "Memory of each run" not in page(only)


def test_the_same_plan_makes_the_same_page():
    assert page(make_plan()) == page(make_plan())
    json.dumps(plan_document(make_plan()))
