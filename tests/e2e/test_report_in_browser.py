"""report.html in a real browser: wide, on a phone, dark, and printed."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
from factories_plan import make_plan

from runplan.document import plan_document
from runplan.paths import TEMPLATES_DIR
from runplan.render import environment
from runplan.report.page import report

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    plan = make_plan()
    long = replace(plan.runs[0], name="1B_rank4_" + "a-very-long-level" * 5)
    plan = replace(plan, runs=(long, *plan.runs[1:]), directory="/out/" + "deep/" * 30)
    path = tmp_path_factory.mktemp("a'; echo x") / "report.html"
    path.write_text(report(plan_document(plan), plan.directory, environment(TEMPLATES_DIR)))
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


def contrast(one: str, other: str) -> float:
    """Contrast of two `rgb(…)` colours as WCAG 2 has it."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_prints_with_its_bars(browser, address, tmp_path):
    page = browser.new_page()
    page.goto(address)
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.querySelector('.p50')).printColorAdjust") == "exact"
    printed = page.pdf(path=tmp_path / "report.pdf")
    assert printed.startswith(b"%PDF")
    assert 1 <= printed.count(b"/Type /Page\n") <= 4
    page.close()
