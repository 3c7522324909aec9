"""The plan summary as a group's README.md."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from runplan.files.document import plan_document
from runplan.summary.blocks import Block, Fact, Figure, Item, Section, Table
from runplan.summary.design import design_type
from runplan.summary.overview import sections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment

    from runplan.plan import Plan

__all__ = ["carry_results", "design_type", "readme", "readme_of"]

RESULTS_START = "<!-- runplan:results -->"
RESULTS_END = "<!-- /runplan:results -->"
TITLE = "Run Plan Summary"

_SPECIAL = re.compile(r"([\\`*|<>\[\]])")
_HIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def readme(plan: Plan, templates: Environment) -> str:
    """README.md of a group, with an empty place for results."""
    return readme_of(plan_document(plan), plan.directory, templates)


def readme_of(document: Mapping[str, Any], directory: str, templates: Environment) -> str:
    """README.md from a plan document, so that a merged `plan.json` and its README say the same."""
    shown = [(section.heading, markdown(section)) for section in sections(document, directory)]
    template = templates.get_template("group/README.md.j2")
    return template.render(title=TITLE, group=_escaped(document["group"]), sections=shown,
                           start=RESULTS_START, end=RESULTS_END)  # fmt: skip


def carry_results(old: str, new: str) -> str:
    """A new README with what stands between the results markers of the old one."""
    kept = _between(old)
    if kept is None or _between(new) is None:
        return new
    start = new.rindex(RESULTS_START) + len(RESULTS_START)
    return new[:start] + kept + new[new.rindex(RESULTS_END) :]


def with_results(text: str, results: str) -> str:
    """A README with new results between its markers; markers that are gone are put at its end.

    Args:
        text: the README.
        results: Markdown.
    """
    if _between(text) is None:
        text = f"{text.rstrip()}\n\n{RESULTS_START}\n{RESULTS_END}\n"
    start = text.rindex(f"\n{RESULTS_START}\n") + len(RESULTS_START) + 2
    return text[:start] + results + text[text.rindex(f"\n{RESULTS_END}") + 1 :]


def _between(text: str) -> str | None:
    start, end = text.rfind(f"\n{RESULTS_START}\n"), text.rfind(f"\n{RESULTS_END}")
    return text[start + 1 + len(RESULTS_START) : end + 1] if 0 <= start < end else None


def visible(text: str) -> str:
    r"""A text on one line: line ends and control characters as `\n`, `\x1b`."""
    return _HIDDEN.sub(lambda match: match.group().encode("unicode_escape").decode(), text)


def _escaped(text: str) -> str:
    """A text that Markdown shows as it is, in tables, too."""
    return _SPECIAL.sub(r"\\\1", visible(text)).replace(r"\<", "&lt;").replace(r"\>", "&gt;")


def _code(text: str) -> str:
    """A text as a code span, whatever backticks it holds."""
    shown = visible(text)
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in shown else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown(section: Section) -> str:
    """The blocks of a section as Markdown; an empty line between blocks of different kinds."""
    parts: list[str] = []
    before: type | None = None
    for block in section.blocks:
        if before is not None and type(block) is not before:
            parts.append("")
        parts.append(_block_text(block))
        before = type(block)
    return "\n".join(parts)


def _block_text(block: Block) -> str:
    if isinstance(block, Table):
        lines = [block.headers, ("---",) * len(block.headers)]
        shown = [*lines, *(tuple(_escaped(cell) for cell in row) for row in block.rows)]
        return "\n".join("| " + " | ".join(row) + " |" for row in shown)
    if isinstance(block, Fact):
        return f"- **{block.label}**: {_code(block.value) if block.code else _escaped(block.value)}"
    if isinstance(block, Item):
        head = f"- {block.mark} {_escaped(block.text)}" if block.mark else f"- {_escaped(block.text)}"
        advice = _code(block.command) if block.is_command else _escaped(block.command)
        return f"{head}\n  {advice}" if block.command else head
    if isinstance(block, Figure):
        return f"![{_escaped(block.title)}]({block.path})"
    fence = "`" * max(3, 1 + max((len(run) for line in block.lines for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}bash", *block.lines, fence])
