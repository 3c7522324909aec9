"""Job scripts whose `#SBATCH` lines somebody edited, so that plan.json's requests are others. An edge."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from runplan.errors import ConfigError
from runplan.slurm.sbatch import directives
from runplan.submit.due import Due
from runplan.submit.request import request_of
from runplan.units import some_of

_MARK = "#SBATCH"
_EACH_ITS_OWN = ("--output", "--comment", "--job-name")
SHOWN = 3
"""Names of jobs in the note."""


def edited_note(due: Sequence[Due]) -> str:
    """What to tell about scripts that ask for something else than plan.json does; empty where there is none."""
    found = [(each, lines) for each in due if (lines := _others(each))]
    if not found:
        return ""
    names = some_of([each.job.path for each, _ in found], SHOWN)
    return (
        f"{names}: the #SBATCH lines are not as plan.json has them ({'; '.join(found[0][1])}). "
        "Asked for is what plan.json says; plain sbatch (--via sbatch) takes the scripts as they are"
    )


def _others(due: Due) -> list[str]:
    """Lines of a script that plan.json's request has not, or those of the request that it has not."""
    planned, written = [], []
    with suppress(OSError, ConfigError):  # gone, or not writable as a request: said elsewhere
        text = (due.job.directory / due.job.script).read_text(encoding="utf-8", errors="replace")
        planned = _options(directives(request_of(due.job.resources), due.job.token))
        written = _options(text.splitlines())
    added = [line for line in written if line not in planned]
    return added or [f"without {line}" for line in planned if line not in written]


def _options(lines: Sequence[str]) -> list[str]:
    found = [line.removeprefix(_MARK).strip() for line in lines if line.startswith(f"{_MARK} ")]
    return [line for line in found if not line.lstrip("'").startswith(_EACH_ITS_OWN)]
