"""The plan summary, as a group's README.md and on the screen."""

from __future__ import annotations

import re
import sys
from typing import IO, TYPE_CHECKING, Any

from runplan.design import TIMES, design_type
from runplan.document import plan_document
from runplan.overview import Block, Commands, Fact, Item, Section, Table, sections

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jinja2 import Environment
    from rich.console import Console

    from runplan.diff import GroupDiff
    from runplan.plan import Plan
    from runplan.store import WriteResult

__all__ = ["carry_results", "design_type", "print_summary", "readme", "readme_of"]

RESULTS_START = "<!-- runplan:results -->"
RESULTS_END = "<!-- /runplan:results -->"
TITLE = "Run Plan Summary"
ROWS_SHOWN = 60
PIPED_WIDTH = 10_000
PLAIN = str.maketrans({"✓": "ok", "✗": "MISSING", TIMES: "x", "…": "...", "≤": "<=", "→": "->", "·": "-"})

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
        return f"{head}\n  {_code(block.command)}" if block.command else head
    fence = "`" * max(3, 1 + max((len(run) for line in block.lines for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}bash", *block.lines, fence])


def print_summary(
    plan: Plan, result: WriteResult | None = None, stream: IO[str] | None = None, width: int | None = None
) -> None:
    """Print the README's content for a terminal: tables aligned, plain when piped, colour unless NO_COLOR.

    Args:
        plan: what was planned.
        result: what writing did; None for a preview.
        stream: where to print; standard output by default.
        width: columns; None = the terminal's, unlimited when piped.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy, and only needed here

    stream = stream or sys.stdout
    piped = not stream.isatty()
    wide = width or (PIPED_WIDTH if piped else None)
    console = Console(file=stream, width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)
    with console.capture() as captured:
        document = plan_document(plan) if result is None else result.document
        _heading(console, TITLE)
        for section in sections(document, plan.directory):
            _heading(console, section.heading)
            for block in section.blocks:
                _print_block(console, block)
        _print_outcome(console, plan, result)
    text = "\n".join(line.rstrip() for line in captured.get().split("\n")) if piped else captured.get()
    stream.write(encodable(text, getattr(stream, "encoding", None)))
    stream.flush()


def encodable(text: str, encoding: str | None) -> str:
    """A text that a stream can take: signs beyond its encoding in words, or as `?`."""
    encoding = encoding or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(PLAIN).encode(encoding, "replace").decode(encoding)
    return text


def _heading(console: Console, text: str) -> None:
    console.print(f"\n{text}", style="bold")


def _print_block(console: Console, block: Block) -> None:
    if isinstance(block, Table):
        _print_table(console, block)
    elif isinstance(block, Fact):
        console.print(f"  {block.label}: {visible(block.value)}")
    elif isinstance(block, Item):
        style = {"✗": "red", "!": "yellow", "✓": "green"}.get(block.mark)
        console.print(f"  {block.mark or '·'} {visible(block.text)}", style=style)
        if block.command:
            console.print(f"      {visible(block.command)}", soft_wrap=True)
    elif isinstance(block, Commands):
        for line in block.lines:
            console.print(f"    {visible(line)}", soft_wrap=True)


def _print_table(console: Console, table: Table) -> None:
    from rich import box  # noqa: PLC0415 - heavy
    from rich.table import Table as RichTable  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415 - heavy

    shown = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, safe_box=True)
    for header in table.headers:
        shown.add_column(Text(header), overflow="fold")
    for row in table.rows[:ROWS_SHOWN]:
        shown.add_row(*(Text(visible(cell)) for cell in row))
    console.print(shown)
    if len(table.rows) > ROWS_SHOWN:
        console.print(f"  … {len(table.rows) - ROWS_SHOWN} more rows in README.md")


def _print_outcome(console: Console, plan: Plan, result: WriteResult | None) -> None:
    if result is not None:
        _print_diff(console, result.diff)
    if result is None or result.preview:
        text = f"Preview: nothing was written. Without preview=true it goes to {visible(plan.directory)}"
        console.print(f"\n{text}", soft_wrap=True)
        return
    state = "Written to" if result.written else "Nothing changed in"
    console.print(f"\n{state} {visible(plan.directory)}", soft_wrap=True)


def _print_diff(console: Console, diff: GroupDiff) -> None:
    lines = diff.lines()
    if lines:
        _heading(console, "Changes to this group")
    for line in lines:
        console.print(f"  {visible(line)}", soft_wrap=True)
