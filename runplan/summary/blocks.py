"""What a README and a screen are made of: headings, tables, facts, lists, commands, pictures. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of cells under headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Fact:
    """One labelled statement: `Epochs: 2`."""

    label: str
    value: str
    code: bool = False
    """Whether the value is something to type."""


PROGRAMS = ("cd ", "git ", "hf ", "pip ", "python ", "rm ", "runplan ")
"""How the commands begin that runplan advises."""


def is_command(advice: str) -> bool:
    """Whether a piece of advice can be pasted into a shell; others are sentences."""
    return advice.startswith(PROGRAMS)


@dataclass(frozen=True)
class Item:
    """One line of a list, with its mark and, where there is one, the command or the words that help."""

    text: str
    mark: str = ""
    command: str = ""

    @property
    def is_command(self) -> bool:
        """Whether `command` is one, rather than words."""
        return is_command(self.command)


@dataclass(frozen=True)
class Commands:
    """Lines for a shell."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Figure:
    """A picture beside the README."""

    title: str
    path: str
    """Relative to the group."""


Block = Table | Fact | Item | Commands | Figure


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    heading: str
    blocks: tuple[Block, ...]
