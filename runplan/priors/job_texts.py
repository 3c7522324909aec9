"""What SLURM's programs said of jobs, where somebody kept it: `scontrol show job`, tables of `sacct`, `seff`.

Such a text stands in a log, before or after the training, or in a file beside logs. It counts for the job it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from runplan.priors.names import gpu_key
from runplan.priors.slurm_words import STATES, tres_fields
from runplan.priors.threads import StepCpus, job_numbers, step_cpus, task_cpus
from runplan.units import used_memory_gib

Job = dict[str, Any]
"""`state`, `elapsed_s`, `gpu`, `num_gpus`, `max_rss_gib`, `asked_mem_gib`, `cpus`; `source` names the program."""

_OPEN = frozenset({"running", None})
_ELAPSED = re.compile(r"(?:(\d{1,4})-)?(\d{1,3}):(\d\d):(\d\d)(?:\.\d+)?")
_KEPT_STATES = {key: value for key, value in STATES.items() if value != "running"}

_JOB = re.compile(r"\bJobId=(\d{1,12})(?=\s)")
_ARRAY = re.compile(r"\bArrayJobId=(\d{1,12}) ArrayTaskId=(\d{1,9})\s")
_JOB_STATE = re.compile(r"\bJobState=([A-Z_]+)(?=\s)")
_TIME_LIMIT = re.compile(r"\bTimeLimit=(\S+)(?=\s)")
_RUN_TIME = re.compile(r"\bRunTime=(\S+)(?=\s)")
_TRES = tuple(re.compile(rf"\b{name}=(\S+)(?=\s)") for name in ("AllocTRES", "(?<!Req)TRES", "ReqTRES"))
_TYPE = re.compile(r"\bTresPer(?:Node|Job|Socket|Task)=(?:\S*[,:/])?gpu:([A-Za-z][\w.-]*)[:=]\d")
"""As the job asked for it, where what it got does not say the type."""
_LONGEST_JOB = 8000

_SEFF = re.compile(
    r"^Job ID: (?P<job>\d{1,12})[ \t]*\r?\n(?:Array Job ID: (?P<array>\d{1,12}_\d{1,9})[ \t]*\r?\n)?"
    r"(?:(?!Job ID:)[^\r\n]{0,200}\r?\n){0,12}?Job Wall-clock time: (?P<elapsed>[\d:-]{7,14})[ \t]*(?:\r?\n|$)"
    r"(?:Memory Utilized: (?P<memory>\d+\.\d\d [KMGT]B)[ \t]*(?:\r?\n|$))?",
    re.MULTILINE,
)
_SEFF_STATE = re.compile(r"^State: ([A-Z_]+)", re.MULTILINE)
_RULE = re.compile(r"-{2,}(?: +-{2,})+ *")
_DASHES = re.compile(r"-+")
_COLUMNS = frozenset({"state", "elapsed", "elapsedraw", "maxrss", "alloctres"})
_STEPS = {"batch+": "batch", "batc+": "batch", "bat+": "batch", "ba+": "batch", "b+": "batch"}
"""The batch script's name in narrow columns."""
_SHORTEST = 4
"""Letters of a state that was cut off in a narrow column: `OUT_OF_ME+`."""


def jobs_in_text(text: str, *, over: bool = False) -> dict[str, Job]:
    r"""Job → what is said of it, the last saying of each field; tasks of arrays as `<array>_<task>`, too.

    Of a job that was still running neither state nor time is told, unless its work was `over`: then the time is.

    >>> jobs_in_text("JobID|State|Elapsed|MaxRSS\n12|COMPLETED|01:00:00|\n12.batch|COMPLETED|01:00:00|2048K\n")
    {'12': {'source': 'sacct', 'state': 'completed', 'elapsed_s': 3600.0, 'max_rss_gib': 0.001953125}}
    """
    jobs: dict[str, Job] = {}
    steps: dict[str, list[StepCpus]] = {}
    for names, said in (*_scontrol(text, over=over), *_sacct(text, over=over), *_seff(text)):
        for name in names:
            job = jobs.setdefault(name, {})
            rss = max((one for one in (job.get("max_rss_gib"), said.get("max_rss_gib")) if one), default=None)
            job |= said
            if rss:
                job["max_rss_gib"] = rss
            if step := job.pop("step", None):
                steps.setdefault(name, []).append(step)
    for name, told in steps.items():
        if each := step_cpus(told):
            jobs[name]["cpus"] = each
    return jobs


def _known(said: Mapping[str, Any]) -> Job:
    return {key: value for key, value in said.items() if value is not None}


def elapsed_seconds(text: str) -> float | None:
    """Of `[days-]hours:minutes:seconds`, as SLURM prints times; None of anything else.

    >>> elapsed_seconds("1-00:00:05"), elapsed_seconds("UNLIMITED")
    (86405.0, None)
    """
    match = _ELAPSED.fullmatch(text)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _state(text: str) -> str | None:
    """A state of ours by SLURM's word, of which a column may show only the beginning."""
    word = text.split(" ", 1)[0]
    cut = word.removesuffix("+")
    if cut != word and len(cut) >= _SHORTEST:
        found = {state for name, state in STATES.items() if name.startswith(cut)}
        return found.pop() if len(found) == 1 else None
    return STATES.get(word)


def _scontrol(text: str, *, over: bool) -> Iterator[tuple[list[str], Job]]:
    places = [match.start() for match in _JOB.finditer(text)]
    for start, end in pairwise([*places, len(text)]):
        block = text[start : min(end, start + _LONGEST_JOB)]
        job, array, state = _JOB.match(block), _ARRAY.search(block), _JOB_STATE.search(block)
        if job is None or state is None:
            continue
        ended = _KEPT_STATES.get(state[1]) or _at_its_limit(block, state[1])
        ran = _RUN_TIME.search(block) if ended or over or state[1] == "COMPLETING" else None
        tres = next((match[1] for one in _TRES if (match := one.search(block)) and match[1] != "(null)"), "")
        said = {
            "source": "scontrol",
            "state": ended,
            "elapsed_s": elapsed_seconds(ran[1]) if ran else None,
            "cpus": task_cpus(job_numbers(block.encode())),
            **({"gpu": gpu_key(asked[1])} if (asked := _TYPE.search(block)) else {}),
            **tres_fields(tres),
        }
        yield [job[1], *([f"{array[1]}_{array[2]}"] if array else [])], _known(said)


def _at_its_limit(block: str, state: str) -> str | None:
    """`timeout` of a job that was being ended (`COMPLETING`) when it had run for as long as it might."""
    ran, limit = _RUN_TIME.search(block), _TIME_LIMIT.search(block)
    if state != "COMPLETING" or ran is None or limit is None:
        return None
    most, seconds = elapsed_seconds(limit[1]), elapsed_seconds(ran[1])
    return "timeout" if most and seconds is not None and seconds >= most else None


def _seff(text: str) -> Iterator[tuple[list[str], Job]]:
    for match in _SEFF.finditer(text):
        state = _SEFF_STATE.search(match[0])
        ended = _KEPT_STATES.get(state[1]) if state else None
        memory = match["memory"]  # `(estimated maximum)` behind it is a product, not what was measured
        said = {
            "source": "seff",
            "state": ended,
            "elapsed_s": elapsed_seconds(match["elapsed"]) if ended else None,
            "max_rss_gib": (used_memory_gib(memory.replace(" ", "").removesuffix("B")) or None) if memory else None,
        }
        yield [name for name in (match["job"], match["array"]) if name], _known(said)


def _sacct(text: str, *, over: bool) -> Iterator[tuple[list[str], Job]]:
    """Rows of tables of `sacct`, whose columns are named by their header."""
    split: Callable[[str], list[str] | None] | None = None
    columns: list[str] = []
    before = ""
    for line in text.splitlines():
        if "|" in line and (named := _header(line.rstrip("|").split("|"))):
            columns, split = named, lambda row: row.split("|")
        elif _RULE.fullmatch(line) and (spans := [match.span() for match in _DASHES.finditer(line)]):
            cells = _cut(before, spans)
            columns = (_header(cells) if cells else None) or []
            split = (lambda row, spans=spans: _cut(row, spans)) if columns else None
        elif split is not None and (cells := split(line)) and len(cells) >= len(columns) and cells[0]:
            yield from _row(dict(zip(columns, cells, strict=False)), over=over)
        elif not line.strip():
            split = None
        before = line


def _header(cells: list[str]) -> list[str] | None:
    names = [cell.strip().lower() for cell in cells]
    return names if "jobid" in names and _COLUMNS.intersection(names) else None


def _cut(line: str, spans: list[tuple[int, int]]) -> list[str] | None:
    """The cells of a row whose columns are parted by one blank; None where something stands between them."""
    if any(line[end : end + 1].strip() for _, end in spans):
        return None
    return [line[start:end].strip() for start, end in spans]


def _tasks(cells: Mapping[str, str]) -> str:
    return (cells.get("ntasks") or "").strip()


def _row(cells: Mapping[str, str], *, over: bool) -> Iterator[tuple[list[str], Job]]:
    name, _, step = cells["jobid"].strip().partition(".")
    if not name.replace("_", "", 1).isdigit():  # cut off, or of several components
        return
    rss = used_memory_gib(cells.get("maxrss", "").strip()) or None
    if step:
        given = cells.get("alloccpus") or cells.get("ncpus") or ""
        yield [name], _known({"max_rss_gib": rss, "step": (_STEPS.get(step, step), given.strip(), _tasks(cells))})
        return
    state = _state(cells.get("state", "").strip())
    elapsed = cells.get("elapsedraw", "").strip()
    seconds = float(elapsed) if elapsed.isdigit() else elapsed_seconds(cells.get("elapsed", "").strip())
    said = {
        "source": "sacct",
        "state": state if state not in _OPEN else None,
        "elapsed_s": seconds if state not in _OPEN or (over and state) else None,
        "max_rss_gib": rss,
        **tres_fields(cells.get("alloctres", "")),
    }
    yield [name], _known(said)
