"""Environment modules, from what `module -t avail` prints. Pure."""

from __future__ import annotations

import re

_KIND = re.compile(r"(?:ana|mini)?conda\d?|mini(?:forge|mamba)\d?|mambaforge|cuda(?:toolkit|-toolkit)?|python\d?")
_MARKS = re.compile(r"\((?:default|D|L|[A-Za-z,:]+)\)$")


def parse_modules(text: str) -> tuple[str, ...]:
    r"""Modules that bring conda, CUDA or Python, in their order; both Lmod's and Tcl's terse lists.

    >>> parse_modules("/opt/modulefiles:\nanaconda3/2025.6(default)\ngcc/13\ncudatoolkit/\ncudatoolkit/12.8\n")
    ('anaconda3/2025.6', 'cudatoolkit/12.8')
    """
    names = (_MARKS.sub("", line.strip()) for line in text.splitlines())
    every = [name for name in names if name and not name.endswith((":", "/")) and " " not in name]
    return tuple(dict.fromkeys(name for name in every if is_told(name)))


def is_told(name: str) -> bool:
    """Whether a module is of a kind that a training job may need."""
    return any(_KIND.fullmatch(part.lower()) for part in name.split("/")[:-1] or [name])
