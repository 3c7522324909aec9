"""The results of a group as a part of its `report.html`: sections, pictures, marks on the plan's bars. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runplan.collect.sections import FOLDER, results_sections
from runplan.jobs.observe import JobState
from runplan.report.charts import PEAK, TOOK, key_of
from runplan.report.page import blocks, rows, shown
from runplan.units import short_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

    from runplan.collect.actual import JobActual
    from runplan.collect.sections import Report

TEMPLATE = "group/results.html.j2"


def results_html(report: Report, pictures: Mapping[str, str], templates: Environment) -> str:
    """What stands between the markers of the group's `report.html`: whole elements, nothing fetched.

    The plan's bars get their marks from here, by rules of style, so that collecting leaves the plan's part as it is
    and planning again keeps the marks, in their place on whatever scale the bars have then.

    Args:
        report: what was worked out.
        pictures: SVG text by path relative to the group; our own, put into the page as it is.
        templates: ours; values are escaped for HTML.
    """
    text = templates.get_template(TEMPLATE).render(
        sections=[(level, section.heading, blocks(section)) for level, section in results_sections(report)],
        pictures={path: text for path, text in pictures.items() if path.startswith(f"{FOLDER}/")},
        marks=[mark for job in report.jobs if job.kind == "train" for mark in marks(job)],
        known=[name for name, there in _known(report).items() if there],
        rows=rows,
    )
    return shown(text)


def marks(job: JobActual) -> list[tuple[str, str]]:
    """The key of a training's rows and CSS properties of them, in our words and numbers: what it took, what it held."""
    time, memory = job.time_s.actual, job.memory_gib.actual
    found: list[str] = []
    if time is not None:
        late = ", beyond p95" if job.time_s.inside is False else ""
        found += [f"--{TOOK}:{time:.6g}", f'--{TOOK}-said:"; took {short_time(time)}{late}"']
    elif job.state in _BAD_ENDS:
        found.append(f'--{TOOK}-said:"; {_BAD_ENDS[job.state]}"')
    if memory is not None:
        high = ", beyond p95" if job.memory_gib.inside is False else ""
        found += [f"--{PEAK}:{memory:.6g}", f'--{PEAK}-said:"; came to {memory:.1f} GiB{high}"']
    return [(key_of(job.run), ";".join(found))] if found else []


_BAD_ENDS = {state.value: state.value.replace("_", " ") for state in JobState if state.ended_badly}


def _known(report: Report) -> dict[str, bool]:
    """Which charts have a mark."""
    trainings = [job for job in report.jobs if job.kind == "train"]
    return {
        TOOK: any(job.time_s.actual is not None for job in trainings),
        PEAK: any(job.memory_gib.actual is not None for job in trainings),
    }
