"""What `squeue` and `sacct` print, as facts about jobs. Pure: the commands themselves run in `commands.py`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from runplan.units import parse_slurm_time, used_memory_gib

SQUEUE_FORMAT = "%i|%A|%T|%r|%V|%S|%k|%l|%o"
"""Job (task of an array: `12_3`), its own number, state, reason, submitted, start (or when it is expected), comment,
time limit, what it runs."""
SACCT_FORMAT = "JobID,JobIDRaw,State,ExitCode,ElapsedRaw,MaxRSS,Submit,Start,Reason,Comment,Timelimit,WorkDir"
LEAST_CELLS = 7
"""Cells of a line up to the comment, without which it is none of squeue's."""

ACTIVE = frozenset(
    {
        *("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"),
        *("RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED", "SPECIAL_EXIT", "RESV_DEL_HOLD"),
    }
)
"""States in which a job is not over."""
WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
"""States in which a job has not begun (again)."""
_COMMENT = "runplan:"


@dataclass(frozen=True)
class SlurmJob:
    """One job as SLURM reports it."""

    job_id: str
    """As ledgers have it: a number, or `<array>_<task>`."""
    raw_id: str
    """Its own number, by which its log is named."""
    state: str
    """SLURM's word: `PENDING`, `OUT_OF_MEMORY`, …"""
    reason: str = ""
    token: str = ""
    """From its comment; empty for jobs that are not ours."""
    submitted_at: str = ""
    """SLURM's local time, `2026-01-31T12:00:00`; so are the others."""
    start_at: str = ""
    """When it began or, waiting, is expected to begin; empty when SLURM does not know."""
    exit_code: int | None = None
    signal: int = 0
    elapsed_s: float | None = None
    max_rss_gib: float | None = None
    limit_s: int | None = None
    """Its time limit now, whatever was requested; None if it has none or SLURM does not say."""
    place: str = ""
    """Directory of its script, by the queue; by accounting, the one that it was submitted from; empty: not told."""
    script: str = ""
    """What it runs, with its path, by the queue; empty: not told."""

    @property
    def active(self) -> bool:
        """Whether it is not over."""
        return self.state in ACTIVE


def parse_queue(text: str) -> dict[str, SlurmJob]:
    """Jobs by id, from lines of `squeue -h -r -o SQUEUE_FORMAT`; other lines are ignored."""
    jobs = {}
    for line in text.splitlines():
        cells = line.split("|", SQUEUE_FORMAT.count("|"))
        if len(cells) >= LEAST_CELLS:
            job_id, raw, state, reason, submitted, start, comment, *more = (_known(cell) for cell in cells)
            limit, command = [*more, "", ""][:2]
            jobs[job_id] = SlurmJob(
                job_id, raw, state, reason, _token(comment), submitted, start,
                limit_s=_limit_s(limit), place=command.rpartition("/")[0], script=command,
            )  # fmt: skip
    return jobs


def parse_accounting(text: str) -> dict[str, SlurmJob]:
    """Jobs by id, from lines of `sacct -n -P -o SACCT_FORMAT`; memory is the largest of a job's steps."""
    jobs: dict[str, SlurmJob] = {}
    memory: dict[str, float] = {}
    for line in text.splitlines():
        cells = line.split("|", SACCT_FORMAT.count(","))
        if len(cells) < SACCT_FORMAT.count(",") - 1:
            continue
        job_id, raw, state, code, elapsed, rss, submitted, start, reason, comment, *more = map(_known, cells)
        job_id, _, step = job_id.partition(".")
        if (used := used_memory_gib(rss)) is not None:
            memory[job_id] = max(used, memory.get(job_id, 0.0))
        if step:
            continue
        exit_code, _, signal = code.partition(":")
        jobs[job_id] = SlurmJob(
            job_id, raw, state.split(" ")[0], reason, _token(comment), submitted, start,
            int(exit_code) if exit_code.isdigit() else None, int(signal) if signal.isdigit() else 0,
            float(elapsed) if elapsed.isdigit() else None,
            limit_s=_limit_s(more[0] if more else ""), place="".join(more[1:]),
        )  # fmt: skip
    return {name: replace(job, max_rss_gib=memory.get(name)) for name, job in jobs.items()}


def _token(comment: str) -> str:
    return comment.removeprefix(_COMMENT) if comment.startswith(_COMMENT) else ""


def _known(cell: str) -> str:
    cell = cell.strip()
    return "" if cell in {"N/A", "None", "(null)", "Unknown", "NONE"} else cell


def _limit_s(text: str) -> int | None:
    """`Timelimit`; None for words such as `UNLIMITED` and `Partition_Limit`."""
    try:
        return parse_slurm_time(text)
    except ValueError:
        return None
