"""report.html in a real browser: wide, on a phone, dark, and printed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from colours import contrast
from factories_collect import make_cell, make_control, make_group, make_log, make_run
from factories_plan import make_plan

from runplan.collect.actual import Compared
from runplan.collect.curves import Curve
from runplan.collect.page import results_html
from runplan.collect.report import make_report, report_files
from runplan.files.document import plan_document
from runplan.files.render import environment
from runplan.paths import TEMPLATES_DIR
from runplan.report.page import report
from runplan.summary.readme import with_results

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    plan = make_plan()
    long = replace(plan.runs[0], name="1B_rank4_" + "a-very-long-level" * 5)
    plan = replace(plan, runs=(long, *plan.runs[1:]), directory="/out/" + "deep/" * 30)
    path = tmp_path_factory.mktemp("a'; echo x") / "report.html"
    path.write_text(report(plan_document(plan), plan.directory, environment(TEMPLATES_DIR)))
    return path.as_uri()


LONG = "1B_rank64_" + "a-very-long-level" * 5


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A page with results: one training ended within its estimate, one far beyond its bar's scale."""
    templates = environment(TEMPLATES_DIR)
    plan = make_plan()
    plan = replace(plan, runs=(plan.runs[0], replace(plan.runs[1], name=LONG), *plan.runs[2:]))
    curve = Curve(tuple((step, 6 / step) for step in range(1, 80)), ((40, 0.4), (79, 0.3)))
    cell = make_cell(make_log((1.0, 1.0, 0.0, 1.0)))
    runs = [replace(make_run(name, {"lora.rank": rank}, [cell]), curve=curve)
            for name, rank in (("1B_rank4", 4), (LONG, 64))]  # fmt: skip
    made = make_report(make_group(*runs, make_control(), factors={"lora.rank": [4, 64]}))
    actual = [(Compared(600.0, 900.0, 720.0), Compared(11.1, 12.3, 11.8)), (Compared(600.0, 900.0, 1e6), Compared())]
    trained = iter(actual)
    jobs = []
    for job in made.jobs:
        time, memory = next(trained) if job.kind == "train" else (job.time_s, job.memory_gib)
        jobs.append(replace(job, time_s=time, memory_gib=memory))
    made, files = report_files(replace(made, jobs=tuple(jobs)), templates)
    page = report(plan_document(plan), plan.directory, templates)
    path = tmp_path_factory.mktemp("collected") / "report.html"
    path.write_text(with_results(page, results_html(made, files, templates)))
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield made
        made.close()


@pytest.mark.parametrize("width", [320, 375, 800, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_at_any_width(browser, address, width, scheme, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert asked == [address]
    assert said == []
    assert page.locator("h2").all_inner_texts()[0] == "Run Design"
    assert page.locator(".chart").count() == 2
    boxes = page.evaluate(
        "[...document.querySelectorAll('.track i')].map(it => { const box = it.getBoundingClientRect(),"
        " track = it.parentElement.getBoundingClientRect(); return [box.left - track.left, track.right - box.right] })"
    )
    assert boxes
    assert all(left >= -0.5 and right >= -0.5 for left, right in boxes)
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert contrast(ink, paper) > 7
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
    page.close()


def test_it_prints_with_its_bars(browser, address, tmp_path):
    page = browser.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.p50')).printColorAdjust") == "exact"
    printed = page.pdf(path=tmp_path / "report.pdf")
    assert printed.startswith(b"%PDF")
    assert 1 <= printed.count(b"/Type /Page\n") <= 4
    page.close()


SHARES = """[...document.querySelectorAll('.%s .rows > :not(.axis)')].map(row => {
  const box = name => row.querySelector(name).getBoundingClientRect(), dot = box('s'), track = box('.track')
  return [((dot.left + dot.right) / 2 - track.left) / track.width,
          getComputedStyle(row.querySelector('.words'), '::after').content, row.querySelector('.label').textContent]
})"""
"""Where the dot of each row stands, as a share of its track, and what is said of it."""


@pytest.mark.parametrize("width", [320, 375, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_results_are_readable_at_any_width(browser, collected, width, scheme, tmp_path):
    page = browser.new_page(viewport={"width": width, "height": 700}, color_scheme=scheme)
    asked, said = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(collected)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (asked, said) == ([collected], [])
    assert page.locator("h2").all_inner_texts()[:3] == ["Results", "Estimated vs actual", "Run Design"]
    pictures = page.locator("#results svg")
    assert pictures.count() == 3
    letters = page.evaluate(
        "[...document.querySelectorAll('#results svg text')].map(it => [getComputedStyle(it).fill,"
        " it.getBoundingClientRect().height])"
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert min(contrast(fill, paper) for fill, _ in letters) > 4.5
    assert min(height for _, height in letters) > 9
    assert len(page.screenshot(path=tmp_path / "page.png", full_page=True)) > 10_000
    page.close()


def test_marks_stand_where_the_runs_ended(browser, collected):
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    page.goto(collected)
    times = page.evaluate(SHARES % "took")
    scale = float(page.evaluate("document.querySelector('.took').style.getPropertyValue('--all')"))
    assert times[0] == [pytest.approx(720 / scale, abs=0.005), '"; took 12min"', "1B_rank4"]
    assert times[1] == [pytest.approx(1, abs=0.005), '"; took 11d 14h, beyond p95"', LONG], "the end of the scale"
    assert [(share < -1, words) for share, words, _ in times[2:]] == [(True, '""')] * 4, "out of sight"
    peaks = page.evaluate(SHARES % "peak")
    scale = float(page.evaluate("document.querySelector('.peak').style.getPropertyValue('--all')"))
    assert peaks[0][:2] == [pytest.approx(11.8 / scale, abs=0.005), '"; came to 11.8 GiB"']
    assert all(share < -1 for share, _, _ in peaks[1:])
    assert page.locator(".took .known").is_visible()
    assert page.locator(".peak .known").is_visible()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_results_print_in_ink_on_paper_and_nothing_is_cut_off(browser, collected, scheme):
    page = browser.new_page(viewport={"width": 720, "height": 1000}, color_scheme=scheme)
    page.emulate_media(media="print", color_scheme=scheme)
    page.goto(collected)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert (
        page.evaluate(
            "[...document.querySelectorAll('table, svg, .row, pre')].filter(it => it.scrollWidth > 720"
            " || it.getBoundingClientRect().right > 720).map(it => it.outerHTML)"
        )
        == []
    )
    assert page.pdf(format="A4").count(b"/Type /Page\n") <= 8
    page.close()


def test_a_bar_opens_by_keyboard_and_says_what_its_estimate_rests_on(browser, address):
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.goto(address)
    assert not page.get_by_text("priors: physics, corrected by your logs; 3 logs.").first.is_visible()
    assert not page.locator(".known").first.is_visible(), "nothing ran yet"
    page.locator("details summary").first.focus()
    page.keyboard.press("Enter")
    assert page.get_by_text("priors: physics, corrected by your logs; 3 logs.").first.is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    page.close()


def test_many_runs_are_put_away_and_printed_in_full(browser, tmp_path):
    plan = make_plan()
    runs = tuple(replace(plan.runs[i % len(plan.runs)], name=f"run{i}") for i in range(500))
    path = tmp_path / "report.html"
    path.write_text(report(plan_document(replace(plan, runs=runs)), "/out", environment(TEMPLATES_DIR)))
    page = browser.new_page(viewport={"width": 375, "height": 700})
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("document.documentElement.scrollHeight") < 5000
    assert page.locator(".took .many > summary").count() == 2
    assert not page.locator("td", has_text="run499").first.is_visible()
    page.emulate_media(media="print")
    assert page.locator("td", has_text="run499").first.is_visible()
    page.close()
