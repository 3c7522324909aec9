"""What our own job scripts note beside a log (`jobs.jsonl`, see runplan/jobs/scripts.py): how long the job ran."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

_LOG = re.compile(r"slurm-(.+)\.out")
_LONGEST_S = 90 * 86400


def job_fields(text: bytes, log_name: str) -> dict[str, Any]:
    """`job_s`, the seconds from the start to the end of the training job that wrote a log; empty where none is named.

    A task of an array notes `<array>_<task>`, while its log bears a number of its own: such a log is known by being
    the only one that trained.

    >>> ended = b'{"event": "ended", "job_id": "7", "kind": "train", "exit_code": 0, "seconds": 60}'
    >>> job_fields(ended, "slurm-7.out"), job_fields(ended, "slurm-8.out")
    ({'job_s': 60.0}, {})
    """
    name = _LOG.fullmatch(log_name)
    if name is None:
        return {}
    lasted: dict[str, float | None] = {}
    for record in _training(text):
        seconds = record.get("seconds")
        ended = record.get("event") == "ended" and isinstance(seconds, int | float) and 0 <= seconds < _LONGEST_S
        # Another start of the same job (requeued) is another run: its end is to come.
        lasted[str(record.get("job_id"))] = float(seconds) if ended and seconds is not None else None
    job = name[1] if name[1] in lasted else next(iter(lasted), "") if len(lasted) == 1 else ""
    found = lasted.get(job) if job == name[1] or "_" in job else None
    return {"job_s": found} if found else {}


def _training(text: bytes) -> Iterator[Mapping[str, Any]]:
    """The notes of training jobs, oldest first; what is no whole note is passed over."""
    for line in text.splitlines():
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict) and record.get("kind") == "train":
            yield record
