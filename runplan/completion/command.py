"""`runplan -sc install=SHELL`, and `query=SHELL`, which the installed lines ask at every Tab."""

from __future__ import annotations

import os
from pathlib import Path

from runplan.completion.candidates import Verbs, candidates
from runplan.completion.line import escaped, read_line
from runplan.completion.shells import INSTALL, UNINSTALL, read_request


def completion_text(words: list[str], verbs: Verbs) -> str:
    """What to print: lines for a shell to evaluate, or the candidates for `COMP_LINE`, one a line.

    Args:
        words: the command line with `-sc`.
        verbs: word → (function, line of the help), as the command line has them.

    Raises:
        ConfigError: it is none of the three requests, or of a shell that there are no lines for.
    """
    verb, shell = read_request(words)
    if verb == "install":
        return INSTALL[shell]
    if verb == "uninstall":
        return UNINSTALL[shell]
    point = os.environ.get("COMP_POINT", "")
    typed = os.environ.get("COMP_LINE", "")
    typed = typed[: int(point)] if point.isdigit() else typed
    found = candidates(read_line(typed), verbs, Path.cwd())
    if shell == "fish":  # quotes and spaces are its own business
        return "".join(f"{word.rstrip(' ')}\n" for word in found)
    brackets = shell == "zsh"
    return "".join(f"{escaped(word.rstrip(' '), brackets=brackets)}{' ' * word.endswith(' ')}\n" for word in found)
