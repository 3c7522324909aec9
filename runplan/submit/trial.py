"""What SLURM says of a group's requests before any of them is submitted. An edge: it asks `sbatch --test-only`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runplan.plan import Request
from runplan.slurm.commands import would_take
from runplan.slurm.sbatch import asked_options
from runplan.submit.due import Due
from runplan.submit.request import by_request
from runplan.units import some_of

SHOWN = 3
"""Names of jobs in a row."""


@dataclass(frozen=True)
class Row:
    """One request and what SLURM says of it."""

    request: Request
    jobs: tuple[str, ...]
    taken: bool | None
    """None: SLURM did not answer."""
    said: str

    @property
    def asks(self) -> str:
        """The request as options of sbatch, without what differs from job to job."""
        return asked_options(self.request)


def ask_all(due: Sequence[Due]) -> list[Row]:
    """Ask about every distinct request; nothing is submitted."""
    rows = []
    for request, jobs in by_request(due).items():
        taken, said = would_take(request)
        rows.append(Row(request, tuple(each.job.name for each in jobs), taken, said.strip()))
    return rows


def row_text(row: Row) -> str:
    """A row of the table: request, jobs, answer."""
    verdict = {True: "taken", False: "refused", None: "no answer"}[row.taken]
    said = row.said.removeprefix("sbatch: ").removeprefix("error: ")
    return f"{row.asks}\n    {len(row.jobs)} jobs: {some_of(row.jobs, SHOWN)}\n    {verdict}: {said}"


def row_json(row: Row) -> dict[str, Any]:
    """The same for programs."""
    return {"request": row.asks, "jobs": list(row.jobs), "taken": row.taken, "said": row.said}
