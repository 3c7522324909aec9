"""The page itself: the plan's charts and sections, and a place for results. Pure."""

from __future__ import annotations

import re
from html import escape
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from runplan.report.charts import memory_chart, time_chart
from runplan.summary.blocks import Section
from runplan.summary.overview import sections, total_runs
from runplan.summary.readme import RESULTS_END, RESULTS_START, TITLE
from runplan.summary.total_hours import total_hours

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from jinja2 import Environment

    from runplan.report.charts import Bar

TEMPLATE = "group/report.html.j2"

_HIDDEN = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that a page must not obey: controls, and those that turn the direction of text."""


def report(document: Mapping[str, Any], directory: str, templates: Environment) -> str:
    """`report.html` from a plan document: one file, no script, nothing fetched; results have an empty place in it.

    Args:
        document: a plan document (`plan.json`), merged or new.
        directory: absolute path of the group, for the commands.
        templates: ours; values are escaped for HTML.
    """
    charts = [chart for chart in (time_chart(document), memory_chart(document)) if chart is not None]
    text = templates.get_template(TEMPLATE).render(
        title=TITLE,
        document=document,
        totals=_totals(document),
        charts=charts,
        bars=bars,
        summary_bar=summary_bar,
        rows=rows,
        sections=[(section.heading, blocks(section)) for section in sections(document, directory)],
        start=RESULTS_START,
        end=RESULTS_END,
    )
    return shown(text)


def shown(text: str) -> str:
    """A page with what would hide or turn its text as escapes: people see everything that is in it."""
    return _HIDDEN.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def blocks(section: Section) -> list[tuple[str, Any]]:
    """The blocks of a section with what they are, neighbours of one kind together: a list of items is one list."""
    found: list[tuple[str, Any]] = []
    for block in section.blocks:
        kind = type(block).__name__.lower()
        if kind in {"fact", "item"}:
            if not (found and found[-1][0] == kind):
                found.append((kind, []))
            found[-1][1].append(block)
        else:
            found.append((kind, block))
    return found


def bars(shown_bars: Iterable[Bar]) -> Markup:
    """Rows of a chart; not a template, which takes four times as long, and a plan may have thousands."""
    return Markup("\n".join(map(_bar, shown_bars)))  # noqa: S704 - every text is escaped


def _bar(bar: Bar) -> str:
    inside = _inside(bar)
    if not bar.details:
        return f'<div class="row {bar.key}">{inside}</div>'
    items = "</li><li>".join([escape(line, quote=False) for line in bar.details])
    return f'<details class="{bar.key}"><summary class="row">{inside}</summary><ul><li>{items}</li></ul></details>'


def _inside(bar: Bar) -> str:
    parts = "".join([f'<i class="{one.kind}" style="left:{one.start}%;width:{one.width}%"></i>' for one in bar.parts])
    marks = "".join([f'<b class="{one.kind}" style="left:{one.at}%"></b>' for one in bar.marks])
    actual = "<s></s>" if bar.key else ""
    return (
        f'<span class="label">{escape(bar.label, quote=False)}</span><span class="track" aria-hidden="true">'
        f'{parts}{marks}{actual}</span><span class="words">{escape(bar.text, quote=False)}</span>'
    )


def summary_bar(bar: Bar) -> Markup:
    """What stands for rows that are put away."""
    return Markup(_inside(bar))  # noqa: S704 - every text is escaped


def rows(cells: Iterable[Sequence[str]]) -> Markup:
    """Rows of a table; see `bars`."""
    made = ["</td><td>".join([escape(cell, quote=False) for cell in row]) for row in cells]
    return Markup("".join([f"<tr><td>{row}</td></tr>\n" for row in made]))  # noqa: S704 - every text is escaped


def _totals(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The figures that stand first."""
    return [
        ("runs", total_runs(document)),
        *total_hours(document),
        ("cells", str(sum(len(run["cells"]) for run in document["runs"]))),
        ("ready", "yes" if document["ready"] else "no"),
        ("risks", str(len(document["risks"])) if document["risks"] else "none"),
    ]
