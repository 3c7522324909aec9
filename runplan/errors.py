"""What can go wrong, by what the user can do about it.

    RunplanError            exit code 1 unless a subclass says otherwise
    ├── ConfigError         a key, value or choice is wrong                     exit 2
    ├── PlanError           runs that cannot be planned; carries all problems   exit 1
    ├── NotReadyError       something the runs need is missing                  exit 3
    ├── RenderError         a template asks for what the plan does not have
    ├── StoreError          the group cannot be written or read as asked
    │   └── NoGroupError    there is no group where one was named            exit 2
    └── SubmitError         the scheduler refused or did not answer

Exceptions carry facts as attributes, make their own sentence and print nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Problem:
    """One reason why a run cannot be planned, or a risk its user should know.

    `what` holds both numbers with their units, `where` the config key or file, `fix` the next move.
    `run` is empty for what concerns the whole group.
    """

    what: str
    where: str = ""
    fix: str = ""
    run: str = ""

    def __str__(self) -> str:
        """One problem as the two lines a user reads."""
        head = f"{self.run}: {self.what}" if self.run else self.what
        if self.where:
            head += f"   @ {self.where}"
        return f"{head}\n    {self.fix}" if self.fix else head


class RunplanError(Exception):
    """Root of all errors that are the user's to solve."""

    exit_code = 1


class ConfigError(RunplanError):
    """The command line or a config file says something runplan does not understand."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems = (Problem(problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class PlanError(RunplanError):
    """Some runs are impossible; nothing of the group was written."""

    def __init__(self, problems: Sequence[Problem], n_runs: int) -> None:
        self.problems = tuple(problems)
        self.n_runs = n_runs
        n_bad = len({problem.run for problem in self.problems if problem.run})
        head = f"{n_bad} of {n_runs} runs cannot be planned, nothing was written"
        shown = _shared(self.problems)
        super().__init__("\n".join([head, *("  " + str(p).replace("\n", "\n  ") for p in shown)]))


def _shared(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in order; one that several runs have is said once, with the names of all of them."""
    runs_of: dict[tuple[str, str, str], dict[str, None]] = {}
    for problem in problems:
        runs_of.setdefault((problem.what, problem.where, problem.fix), {})[problem.run] = None
    return [Problem(*said, run=", ".join(filter(None, runs))) for said, runs in runs_of.items()]


class RenderError(RunplanError):
    """A template and the plan do not fit together."""


class NotReadyError(RunplanError):
    """The group is planned and written, but something its runs need is missing."""

    exit_code = 3


class StoreError(RunplanError):
    """A group or run directory cannot be written or read as asked."""


class NoGroupError(StoreError):
    """A folder was named that holds no group."""

    exit_code = 2


class SubmitError(RunplanError):
    """The scheduler refused, or did not answer."""
