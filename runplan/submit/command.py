"""`runplan submit GROUP`: hands what is due to SLURM, or runs it here; never the same run twice."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runplan.arguments import Arguments
from runplan.errors import ConfigError, Problem, SubmitError
from runplan.files.group_lock import WAIT_S, GroupLock, group_lock
from runplan.files.written import WrittenGroup, read_group
from runplan.jobs.copies import copy_note
from runplan.jobs.observe import JobState
from runplan.os_errors import spoken
from runplan.pasting import pasted_word
from runplan.slurm.commands import AWAY, controller_is_down, read_queue
from runplan.submit.deciding import decide
from runplan.submit.due import AGAIN, Decision
from runplan.submit.edited import edited_note
from runplan.submit.prerequisites import check_prerequisites
from runplan.submit.result import SubmitResult, closing_lines, json_document
from runplan.submit.sbatch_jobs import Submission
from runplan.submit.snapshot import Snapshot, look_and_settle
from runplan.submit.trial import ask_all, row_json, row_text
from runplan.suggest import did_you_mean

VIAS = ("sbatch", "submitit", "local")
ROUND_S = 30.0
"""How often `--wait` looks whether there is room in the queue; a call of `squeue` each time."""
LONGEST_ROUND_S = 900.0
NOTHING_NEW = frozenset({JobState.completed})
"""Replaces `--only` after the first round of a call: what fails again meanwhile is left to the next call."""


@dataclass(frozen=True)
class Wish:
    """What the command line asks for."""

    group: Path
    via: str = "sbatch"
    only: frozenset[JobState] = frozenset()
    test_only: bool = False
    as_json: bool = False
    wait: bool = False


def main(argv: Sequence[str]) -> int:
    """Run `runplan submit ARGV`; returns the exit code.

    Raises:
        RunplanError: what the user has to solve.
    """
    return submit_group(_wish(argv))


def submit_group(wish: Wish) -> int:
    """Submit what is due of a group; returns the exit code.

    0: everything that is due is submitted, or waits for room in the queue; 1: something could not be submitted.

    Raises:
        NotReadyError: something the jobs need is missing; nothing was submitted.
        RunplanError: the group cannot be read, another call has its lock, or there is no SLURM.
    """
    group = read_group(wish.group)  # before there is a lock in a directory that is no group
    if wish.via != "local" and shutil.which("sbatch") is None:
        raise SubmitError(
            "no sbatch on PATH: run this on a machine that submits to SLURM, "
            f"or run the group on this one: runplan submit {pasted_word(str(wish.group))} --via local"
        )
    if wish.via != "local" and controller_is_down():
        raise SubmitError(f"{AWAY}: nothing was submitted; run the same again when it is back")
    if wish.test_only:
        return _test_only(group, wish)
    result, only = SubmitResult(), wish.only
    while True:
        with spoken(group.directory, "submit"), group_lock(group.directory, WAIT_S) as lock:
            group = read_group(wish.group)  # as it is now that nobody plans it anew
            decision = _round(group, wish, only, lock, result)
        if not (result.waiting and wish.wait):
            break
        _note(f"{len(result.submitted)} submitted, {len(result.waiting)} wait for room in the queue ({result.full})")
        await_room()
        result = SubmitResult(submitted=result.submitted)
        only = NOTHING_NEW if wish.only else only
    if wish.via == "local" and decision.due:
        return _run_here(group, wish, decision)
    _close(group, wish, decision, result)
    return result.exit_code


def await_room() -> None:
    """Return when fewer jobs of this user are in the queue than now, or after a while: others share some limits."""
    n_before, until = _n_active(), time.monotonic() + LONGEST_ROUND_S
    while time.monotonic() < until:
        time.sleep(ROUND_S)
        n_now = _n_active()
        if n_now is not None and (n_before is None or n_now < n_before):
            return


def _n_active() -> int | None:
    queue = read_queue()
    return None if queue is None else sum(job.active for job in queue.values())


def _round(
    group: WrittenGroup, wish: Wish, only: frozenset[JobState], lock: GroupLock, result: SubmitResult
) -> Decision:
    """Look, decide and submit once, while nobody else can."""
    if not lock.is_exclusive:
        _note("no locks on this file system: do not submit this group twice at once")
    snapshot = look_and_settle(group, logs=bool(only))
    _warn(group, snapshot)
    decision = decide(group, snapshot, only, via=wish.via)
    check_prerequisites(group, decision.due)
    result.left += decision.left
    for left in decision.left:
        _say(wish, f"{left.job.name}  not submitted: {left.reason}")
    submission = Submission(group, snapshot, lock, lambda line: _say(wish, line), result)
    if wish.via == "sbatch":
        submission.submit_all(decision.due)
    elif wish.via == "submitit":
        _note_edited(decision)
        from runplan.submit.submitit_jobs import submit_arrays  # noqa: PLC0415 - submitit loads slowly

        submit_arrays(submission, decision.due)
    return decision


def _test_only(group: WrittenGroup, wish: Wish) -> int:
    with spoken(group.directory, "submit"), group_lock(group.directory, WAIT_S):
        snapshot = look_and_settle(group, logs=bool(wish.only))
        decision = decide(group, snapshot, wish.only, via=wish.via)
    _note_edited(decision)
    rows = ask_all(decision.due)
    if wish.as_json:
        print(json.dumps([row_json(row) for row in rows], indent=2))  # noqa: T201 - the user's screen is the place
    elif not rows:
        _say(wish, "nothing is due: there is no request to ask about")
    for row in rows:
        _say(wish, row_text(row))
    return 0 if all(row.taken for row in rows) else 1


def _run_here(group: WrittenGroup, wish: Wish, decision: Decision) -> int:
    from runplan.submit.local import run_jobs  # noqa: PLC0415 - only for this way
    from runplan.submit.machine import read_machine  # noqa: PLC0415

    jobs, machine = [due.job for due in decision.due], read_machine()
    if wish.as_json:
        outcome = run_jobs(group, jobs, machine, lambda _line: None)
    else:
        from runplan.submit.progress import shown_progress  # noqa: PLC0415 - shows what rich draws

        with shown_progress(group) as (say, tick):
            outcome = run_jobs(group, jobs, machine, say, tick=tick)
    if wish.as_json:
        document = {"group": str(group.directory), "via": "local", **asdict(outcome)}
        print(json.dumps(document, indent=2))  # noqa: T201 - the user's screen is the place
    if outcome.interrupted:
        _note("stopped; the same command goes on with what is left")
        return 130
    return 1 if outcome.failed or outcome.skipped or decision.left else 0


def _warn(group: WrittenGroup, snapshot: Snapshot) -> None:
    if snapshot.ledger.damaged:
        lines = ", ".join(str(number) for number in snapshot.ledger.damaged[:5])
        _note(
            f"{group.directory}/ledger.jsonl: line {lines} cannot be read and is ignored; "
            "jobs are looked for by their tokens instead"
        )
    if note := copy_note(group, snapshot.ledger, snapshot.known):
        _note(note)


def _note_edited(decision: Decision) -> None:
    if note := edited_note(decision.due):
        _note(note)


def _close(group: WrittenGroup, wish: Wish, decision: Decision, result: SubmitResult) -> None:
    if wish.as_json:
        document = json_document(group.directory, wish.via, decision, result)
        print(json.dumps(document, indent=2))  # noqa: T201 - the user's screen is the place
    if result.stopped:
        _note(result.stopped)
    for line in closing_lines(group.directory, decision, result, wish.via):
        _say(wish, line)


def _say(wish: Wish, line: str) -> None:
    if not wish.as_json:
        print(line, flush=True)  # noqa: T201 - the user's screen is the place


def _note(line: str) -> None:
    print(f"runplan submit: {line}", file=sys.stderr, flush=True)  # noqa: T201 - the user's screen is the place


def _wish(argv: Sequence[str]) -> Wish:
    parser = Arguments("runplan submit", description="Submit what is not yet submitted; never the same run twice.")
    parser.add_argument("group", metavar="GROUP", type=Path, help="directory of a group, as planning wrote it")
    parser.add_argument("--via", choices=VIAS, default="sbatch", help="sbatch (default), submitit, or local (here)")
    parser.add_argument(
        "--only", metavar="STATE,…", default="", help=f"retry jobs that ended so: {', '.join(s.value for s in AGAIN)}"
    )
    parser.add_argument("--wait", action="store_true", help="when the queue is full, submit the rest as jobs end")
    parser.add_argument("--test-only", action="store_true", help="ask SLURM about every request, submit nothing")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    found = parser.parse_args(list(argv))
    return Wish(found.group, found.via, _states(found.only), found.test_only, found.json, found.wait)


def _states(text: str) -> frozenset[JobState]:
    known = {state.value: state for state in AGAIN}
    words = [word.strip() for word in text.split(",") if word.strip()]
    problems = [
        Problem(f"{word!r} is no ending of a job", "--only", did_you_mean(word, known, f"one of {', '.join(known)}"))
        for word in words
        if word not in known
    ]
    if problems:
        raise ConfigError(problems)
    return frozenset(known[word] for word in words)
