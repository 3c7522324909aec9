"""The results' part of report.html: the README's sections, pictures for light and dark, marks on the plan's bars."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from colours import contrast
from factories_collect import make_cell, make_control, make_group, make_job, make_log, make_run

from runplan.collect.actual import Compared, actuals
from runplan.collect.curves import Curve
from runplan.collect.figures import ACTUAL, COLORS, LATE
from runplan.collect.page import marks, results_html
from runplan.collect.report import make_report, report_files
from runplan.files.render import environment
from runplan.jobs.observe import JobState
from runplan.paths import TEMPLATES_DIR
from runplan.report.charts import key_of
from runplan.summary.readme import RESULTS_END, RESULTS_START

HOSTILE = [
    '<script>alert("x")</script>',
    "</style><script>x()</script>",
    "</title></svg><img src=x onerror=x()>",
    f"{RESULTS_END}\n",
    f"\n{RESULTS_START}\n",
    "{{ 7 * 7 }}{% raw %}",
    "\x1b[31m\u202etxt",
    "a" * 300,
]
VOID = {"rect", "line", "circle", "polyline", "br"}


class Reader(HTMLParser):
    """Tags with their attributes, and the text people see."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def part(*runs, factors=None):
    templates = environment(TEMPLATES_DIR)
    report, files = report_files(make_report(make_group(*runs, factors=factors or {"lora.rank": [4]})), templates)
    return results_html(report, files, templates)


def with_curve(run):
    return replace(run, curve=Curve(((1, 2.0), (2, 1.5)), ((2, 1.4),)))


def test_it_says_what_the_readme_says_with_pictures_inside():
    read = Reader(part(with_curve(make_run(factors={"lora.rank": 4})), make_control()))
    text = " ".join(read.text)
    assert read.open == []
    for word in ("Results", "By factor", "By run", "Learning curves", "Estimated vs actual", "words: accuracy (match)",
                 "+0.500", "1 of 1", "completed"):  # fmt: skip
        assert word in text
    assert read.tags.count("svg") == 3
    assert [value for key, value in read.attributes if key in {"src", "href", "id"}] == []


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_what_users_and_logs_say_is_shown_and_not_obeyed(value):
    log = make_log(task=value)
    cell = make_cell(log, task=value)
    lost = make_run(f"lost{value}", {"lora.rank": value}, [make_cell(None, job=make_job(JobState.failed, exit_code=1))])
    run = with_curve(make_run(value, {"lora.rank": value}, [cell]))
    text = part(run, lost, make_control(), factors={"lora.rank": [value]})
    read = Reader(text)
    assert read.open == []
    assert not {"script", "img"} & set(read.tags)
    assert not [key for key, _ in read.attributes if key.startswith("on")]
    assert RESULTS_START not in text
    assert RESULTS_END not in text
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    if value.isprintable():
        assert value in " ".join(read.text)
    style = text[text.index("<style>") : text.index("</style>")]
    assert value.strip() not in style


def test_a_finished_training_is_marked_where_it_ended():
    group = make_group(make_run(), make_control())
    job = actuals(group)[0]
    ((key, properties),) = marks(job)
    assert key == key_of("1B_rank4")
    assert properties == '--took:60;--took-said:"; took 1min"'
    late = replace(job, time_s=replace(job.time_s, actual=5400.0), memory_gib=Compared(10.0, 12.0, 13.25))
    assert marks(late)[0][1].split(";--") == [
        "--took:5400",
        'took-said:"; took 1h 30min, beyond p95"',
        "peak:13.25",
        'peak-said:"; came to 13.2 GiB, beyond p95"',
    ]


def test_what_has_not_ended_has_no_mark_and_a_bad_end_is_said():
    assert marks(actuals(make_group(make_run(job=make_job(JobState.running, exit_code=None))))[0]) == []
    ((_, properties),) = marks(actuals(make_group(make_run(job=make_job(JobState.host_oom, exit_code=137))))[0])
    assert properties == '--took-said:"; host oom"'
    text = part(make_run(job=make_job(JobState.failed, exit_code=1)), make_control())
    assert ".took .known" not in text, "no dot, so nothing in the legend"
    assert ".took .known{display:inline}" in part(make_run(), make_control())


def colours_of(sheet, name):
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", re.search(name + r"\{(.*?)\}", sheet)[1]))


def test_every_colour_of_the_pictures_is_seen_on_light_and_dark():
    sheet = (TEMPLATES_DIR / "group/report.html.j2").read_text()
    light, dark = colours_of(sheet, ":root"), colours_of(sheet, r"prefers-color-scheme:dark\)\{:root")
    assert light.keys() == dark.keys()
    rules = (TEMPLATES_DIR / "group/results.html.j2").read_text()
    pictures = [path.read_text() for path in (TEMPLATES_DIR / "group").glob("*.svg.j2")]
    inked = {colour for text in pictures for colour in re.findall(r'(?:fill|stroke)="(?:\{\{ ")?(#[0-9a-f]{6})', text)}
    assert len(inked) > 6
    for colour in inked | {"#e4e4e4", ACTUAL, LATE}:
        assert f'="{colour}"]' in rules, f"{colour} has no counterpart"
    for scheme in (light, dark):
        assert contrast(scheme["ink"], scheme["page"]) > 7
        for name in ("soft", "good", "bad", "limit"):
            assert contrast(scheme[name], scheme["page"]) > 4.5
        for name in ("p50", "evals", "asked"):
            assert contrast(scheme[name], scheme["page"]) > 3
        drawn = [colour for colour in COLORS if f'="{colour}"]' not in rules]
        assert all(contrast(colour, scheme["page"]) > 1.5 for colour in drawn)


def test_the_same_results_make_the_same_part():
    runs = with_curve(make_run(factors={"lora.rank": 4})), make_control()
    assert part(*runs) == part(*runs)
