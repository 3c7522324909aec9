"""report.html as text: every number within its scale, nothing fetched, nothing obeyed that a user wrote."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from factories_plan import make_plan, make_sizing
from hypothesis import given, settings
from hypothesis import strategies as st

from runplan.document import plan_document
from runplan.paths import TEMPLATES_DIR
from runplan.render import environment
from runplan.report.charts import memory_chart, time_chart
from runplan.report.page import report
from runplan.summary import RESULTS_END, RESULTS_START, carry_results

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


def test_a_plan_of_controls_alone_has_no_memory_to_show():
    plan = make_plan()
    only = replace(plan, runs=tuple(run for run in plan.runs if run.sizing is None))
    assert memory_chart(plan_document(only)) is None
    assert "Memory of each run" not in page(only)


def test_the_same_plan_makes_the_same_page():
    assert page(make_plan()) == page(make_plan())
    json.dumps(plan_document(make_plan()))
