"""Looking at a group: what is asked and read, and what is made of it."""

import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from job_plans import fake_program, plan, run, write
from status_groups import T0, account_line, fake_slurm, queue_line, submitted, told, write_group

from runplan.files.document import document_text, plan_document
from runplan.files.written import read_group
from runplan.jobs import look as looking
from runplan.jobs.attempts import TIME_FORMAT, Attempt, Ledger
from runplan.jobs.ledger import append
from runplan.jobs.look import TAIL_BYTES, look
from runplan.jobs.observe import JobState
from runplan.jobs.seen import SlurmAnswer
from runplan.status.group import group_status
from runplan.status.rows import waits
from runplan.submit.snapshot import look_and_settle

CELL0, CELL1 = ("eval/cap_epoch0", "eval/cap_epoch1")
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


def tokens(group):
    return [job.token for job in group.jobs]


def now_text(shift=0.0):
    return datetime.fromtimestamp(time.time() + shift, UTC).strftime(TIME_FORMAT)


def states(group):
    return [seen.state for seen in look(group).observed.values()]


def test_the_queue_alone_is_asked_about_a_group_that_was_not_submitted(tmp_path, monkeypatch):
    bin_dir = fake_slurm(tmp_path / "bin", monkeypatch)
    group = write_group(tmp_path / "group")
    sight = look(group)
    assert {seen.state for seen in sight.observed.values()} == {JobState.not_submitted}
    assert list(sight.observed) == tokens(group)
    assert sight.slurm is SlurmAnswer.answered
    assert [line.split()[0] for line in (bin_dir / "calls").read_text().splitlines()] == ["squeue"]


def test_that_slurm_is_silent_does_not_matter_to_a_group_that_was_not_submitted(tmp_path, monkeypatch):
    fake_slurm(tmp_path / "bin", monkeypatch, None)
    assert look(write_group(tmp_path / "group")).slurm is SlurmAnswer.not_asked


def test_jobs_submitted_by_hand_are_found_before_they_begin(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train, first, second, base = group.jobs
    commented = queue_line("7", "PENDING", "Priority").replace("runplan:x", f"runplan:{train.token}")
    bare = queue_line("8", "PENDING", "Resources").replace("runplan:x", "").rstrip("\n")
    other = queue_line("9", "PENDING", "Resources").replace("runplan:x", "mine").rstrip("\n")
    over = queue_line("10", "CANCELLED").replace("runplan:x", f"runplan:{first.token}")
    lines = [commented, f"{bare}|1:00:00|{base.directory}/{base.script}\n",
             f"{other}|1:00:00|{second.directory}/another.sh\n", over]  # fmt: skip
    bin_dir = fake_slurm(tmp_path / "bin", monkeypatch, "".join(lines))
    for _ in range(2):
        seen = look(group).observed
        assert [(seen[job.token].state, seen[job.token].job_id) for job in group.jobs] == [
            (JobState.pending, "7"), (JobState.not_submitted, None), (JobState.not_submitted, None),
            (JobState.pending, "8"),
        ]  # fmt: skip
    assert not (group.directory / "ledger.jsonl").exists(), "who looks writes nothing"
    (bin_dir / "squeue.txt").write_text("")
    assert look(group).observed[train.token].state is JobState.not_submitted


def test_each_command_is_called_once_and_from_before_the_first_attempt(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train, first, second, base = tokens(group)
    bin_dir = fake_slurm(
        tmp_path / "bin", monkeypatch,
        queue_line("8", "PENDING", "Dependency") + queue_line("10", "RUNNING"),
        account_line("7", "TIMEOUT", "0:1", 1800, "2G") + account_line("8", "PENDING"),
    )  # fmt: skip
    submitted(group, {train: "7", first: "8", second: "9", base: "10"})
    told(group.jobs[1].directory, "started", "tok1", "7")
    told(group.jobs[2].directory, "ended", second, "9", exit_code=0, seconds=5)
    told(group.jobs[3].directory, "started", base, "10")
    seen = look(group).observed
    assert [one.state for one in seen.values()] == [
        JobState.timeout, JobState.pending, JobState.completed, JobState.running,
    ]  # fmt: skip
    assert (seen[train].max_rss_gib, seen[train].seconds, seen[first].reason) == (2.0, 1800.0, "Dependency")
    calls = sorted(line.split()[0] for line in (bin_dir / "calls").read_text().splitlines())
    assert calls == ["sacct", "squeue"]
    asked = next(line for line in (bin_dir / "calls").read_text().splitlines() if line.startswith("sacct"))
    since = datetime.fromisoformat(asked.split("-S ")[1].split()[0]).astimezone(UTC)
    assert since < datetime.strptime(T0, TIME_FORMAT).replace(tzinfo=UTC)


def test_the_log_says_why_a_job_failed(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train = tokens(group)[0]
    fake_slurm(tmp_path / "bin", monkeypatch, queue_line("7", "FAILED", "NonZeroExitCode"))
    submitted(group, {train: "7"})
    told(group.jobs[0].directory, "started", train, "7")
    told(group.jobs[0].directory, "ended", train, "7", exit_code=1, seconds=9)
    log = group.jobs[0].directory / "slurm-7.out"
    log.write_text("x" * TAIL_BYTES + f"\nTraceback (most recent call last):\n  File ...\n{OOM}\n")
    sight = look(group)
    assert (sight.observed[train].state, sight.observed[train].reason) == (JobState.oom, OOM)
    assert sight.jobs[train].log == str(log)
    assert len(sight.jobs[train].tail) == TAIL_BYTES


def test_a_task_of_an_array_has_its_log_under_its_own_number(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train = tokens(group)[0]
    folder = group.jobs[0].directory
    (folder / "slurm-5.out").write_text("an earlier job\n")
    (folder / "slurm-6.out").write_text("mine\n")
    os.utime(folder / "slurm-5.out", (1, 1))
    submitted(group, {train: "5_1"})
    told(folder, "started", train, "5_1")
    told(folder, "ended", train, "5_1", exit_code=1, seconds=9)
    bin_dir = fake_slurm(tmp_path / "bin", monkeypatch, queue_line("5_1", "FAILED", raw="5"))
    assert look(group).jobs[train].tail == b"an earlier job\n"
    (bin_dir / "squeue.txt").write_text("")  # forgotten: the newest is taken
    assert look(group).jobs[train].tail == b"mine\n"


@pytest.mark.parametrize("gone", ["silent", "absent"])
def test_without_an_answer_of_slurm_the_runs_speak(gone, tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train, first, second, base = tokens(group)
    bin_dir = fake_slurm(tmp_path / "bin", monkeypatch, None)
    if gone == "absent":
        for name in ("squeue", "sacct"):
            (bin_dir / name).unlink()
        kept = [part for part in os.environ["PATH"].split(":") if not Path(part, "squeue").exists()]
        monkeypatch.setenv("PATH", ":".join(kept))
    submitted(group, {train: "7", first: "8", second: "9", base: "10"})
    told(group.jobs[0].directory, "started", train, "7")
    told(group.jobs[1].directory, "started", first, "8")
    told(group.jobs[1].directory, "ended", first, "8", exit_code=0, seconds=5)
    told(group.jobs[3].directory, "started", base, "10")
    told(group.jobs[3].directory, "ended", base, "10", exit_code=2, seconds=5)
    (group.jobs[3].directory / "slurm-10.out").write_text("cell.slurm: no model at /nowhere\n")
    sight = look(group)
    assert sight.slurm.value == gone
    assert [one.state for one in sight.observed.values()] == [
        JobState.running, JobState.completed, JobState.unknown, JobState.failed,
    ]  # fmt: skip
    assert sight.observed[base].reason == "cell.slurm: no model at /nowhere"


def test_a_deleted_directory_and_things_that_are_no_logs_are_no_crash(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    train, first, _, base = tokens(group)
    fake_slurm(tmp_path / "bin", monkeypatch, queue_line("7", "RUNNING") + queue_line("8", "FAILED"))
    submitted(group, {train: "7", first: "8", base: "10"})
    shutil.rmtree(group.jobs[0].directory)
    log = group.jobs[3].directory / "slurm-10.out"
    os.mkfifo(log)
    (group.jobs[3].directory / "jobs.jsonl").write_bytes(b"\xff\x00{]\n" + b'{"event": 3}\n')
    sight = look(group)
    assert [one.there for one in sight.jobs.values()] == [False, False, False, True]
    assert sight.observed[train].state is JobState.running
    assert sight.observed[first].state is JobState.failed


def local(group, process, shift=0.0, **more):
    train = group.jobs[0].token
    told(group.jobs[0].directory, "started", train, f"local-{process}", now_text(shift), **more)
    return train


def test_a_local_job_runs_as_long_as_its_process(tmp_path):
    group = write_group(tmp_path / "group")
    process = subprocess.Popen(["sleep", "60"], cwd=group.jobs[0].directory)
    try:
        train = local(group, process.pid, host=os.uname().nodename)
        assert look(group).observed[train].state is JobState.running
    finally:
        process.kill()
        # not yet waited for: a zombie is no running job
        deadline = time.monotonic() + 5
        while look(group).observed[train].state is JobState.running and time.monotonic() < deadline:
            time.sleep(0.01)
        seen = look(group).observed[train]
        process.wait()
    assert (seen.state, look(group).observed[train].state) == (JobState.cancelled, JobState.cancelled)


def test_the_scripts_own_first_line_is_enough_to_find_its_process(tmp_path, monkeypatch):
    fake_program(tmp_path / "bin", "tune", 'kill -9 "$PPID"')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    made = plan(run(token="tok1"), directory=str(tmp_path / "group"))
    directory = write(made)
    (directory / "plan.json").write_text(document_text(plan_document(made)))
    group = read_group(directory)
    subprocess.run(["bash", "finetune.slurm"], cwd=group.jobs[0].directory, capture_output=True, check=False)
    (seen,) = look(group).observed.values()
    assert (seen.state, seen.job_id.partition("-")[0]) == (JobState.cancelled, "local")
    assert "its process is gone" in seen.reason


def test_a_local_job_of_which_nothing_is_heard_is_unknown(tmp_path):
    group = write_group(tmp_path / "group")
    train = group.jobs[0].token
    submitted(group, {train: f"local-{2**22 + 1}"}, via="local")
    seen = look(group).observed[train]
    assert (seen.state, seen.reason) == (JobState.unknown, "this machine cannot tell")


def test_the_jobs_of_whoever_owns_the_ledger_are_asked_for(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    bin_dir = fake_slurm(tmp_path / "bin", monkeypatch)
    submitted(group, {group.jobs[0].token: "7"})
    look(group)
    owner = (group.directory / "ledger.jsonl").stat().st_uid
    assert all(f" -u {owner} " in line for line in (bin_dir / "calls").read_text().splitlines())


def test_a_number_that_now_is_another_programs_is_not_the_job(tmp_path):
    group = write_group(tmp_path / "group")
    process = subprocess.Popen(["sleep", "60"], cwd=group.jobs[0].directory)
    try:
        train = local(group, process.pid, shift=-3600, host=os.uname().nodename)
        assert look(group).observed[train].state is JobState.cancelled
    finally:
        process.kill()
        process.wait()


def test_a_process_elsewhere_cannot_be_told(tmp_path):
    group = write_group(tmp_path / "group")
    train = local(group, 2**22 + 1, host="another-machine")
    seen = look(group).observed[train]
    assert (seen.state, seen.reason) == (JobState.running, "by its own record; this machine cannot tell")


def test_a_record_that_cannot_be_read_is_told_of_and_never_taken_for_none(tmp_path, monkeypatch):
    group = write_group(tmp_path / "group")
    fake_slurm(tmp_path / "bin", monkeypatch)
    (group.jobs[0].directory / "jobs.jsonl").mkdir()
    sight = look(group)
    assert sight.jobs[group.jobs[0].token].unread.endswith("jobs.jsonl: Is a directory")
    with pytest.raises(OSError, match=r"jobs\.jsonl: Is a directory"):
        look_and_settle(group, logs=False)


def test_the_queue_and_accounting_have_one_deadline(monkeypatch):
    given, clock = {}, iter([100.0, 100.0 + looking.SLURM_S])

    def kept(name):
        return lambda *words, uid: given.update({name: (words[-1], uid)})

    monkeypatch.setattr(looking, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(looking, "read_queue", kept("squeue"))
    monkeypatch.setattr(looking, "read_accounting", kept("sacct"))
    tried = Attempt("t", "2026-01-01T00:00:00Z", job_id="1")
    looking.read_slurm_jobs(Ledger({"t": (tried,)}), {}, "0")
    assert given == {"squeue": (looking.SLURM_S, "0"), "sacct": (looking.LEAST_S, "0")}


def test_what_slurm_refused_says_why_until_it_is_tried_again(tmp_path, monkeypatch):
    group = write_group(tmp_path / "g", run("a", token="a"), run("b", token="b"))
    events = [{"event": kind, "token": token, "job_id": None} for token in "ab" for kind in ("intent", "refused")]
    events[1]["reason"] = "Invalid qos specification"
    append(group.directory, events)
    fake_slurm(tmp_path / "bin", monkeypatch, "")
    reasons = {token: seen.reason for token, seen in look(group).observed.items()}
    assert reasons == {
        "a": "refused by SLURM: Invalid qos specification",
        "b": "refused by SLURM: submit again to see why",
    }
    told = [said.text for said in waits(group_status(group, look(group)))]
    assert told[0] == "1 not submitted: refused by SLURM: Invalid qos specification"
    full = {"event": "refused", "token": "a", "job_id": None, "reason": "AssocMaxSubmitJobLimit"}
    append(group.directory, [full])
    assert look(group).observed["a"].reason.endswith(": AssocMaxSubmitJobLimit; submit again as jobs end")
    append(group.directory, [{"event": "intent", "token": "a", "job_id": None}])
    assert look(group).observed["a"].state is JobState.held
