"""Arguments of a verb: parsed with argparse, and mistakes reported like all others."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from runplan.errors import ConfigError, Problem
from runplan.suggest import near

MISSING = "the following arguments are required: "
UNKNOWN = "unrecognized arguments: "


class Arguments(argparse.ArgumentParser):
    """Options of one verb; whole names only, so that a name can be added without changing what others mean."""

    def __init__(self, prog: str, **more: Any) -> None:
        super().__init__(prog=prog, allow_abbrev=False, **more)

    def error(self, message: str) -> NoReturn:
        """Refuse a command line.

        Raises:
            ConfigError: always; with what argparse found, in our words.
        """
        raise ConfigError([self._problem(message)])

    def _problem(self, message: str) -> Problem:
        fix = f"{self.prog} --help shows what there is"
        if message.startswith(MISSING):
            missing = message.removeprefix(MISSING)
            return Problem(f"{missing} is missing", self.prog, f"write {self.prog} {missing}; {fix}")
        if message.startswith(UNKNOWN):
            words = message.removeprefix(UNKNOWN)
            options = [option for action in self._actions for option in action.option_strings]
            found = near(words.partition("=")[0], options)
            return Problem(
                f"{self.prog} does not know {words!r}",
                "command line",
                f"did you mean {' or '.join(found)}?" if found else fix,
            )
        if message.startswith("argument "):
            where, _, what = message.removeprefix("argument ").partition(": ")
            return Problem(f"{self.prog} {where}: {what}", where, fix)
        return Problem(message, self.prog, fix)
