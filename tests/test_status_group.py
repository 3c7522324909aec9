"""What is said of a whole group: states, totals, notes, what to do next, as JSON and on the screen."""

import io
import json
import os
import shutil
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from job_plans import config, control
from status_groups import (
    account_line,
    fake_slurm,
    queue_line,
    submitted,
    told,
    trained,
    write_group,
)
from test_status_pace import HEADER, SAMPLE, bars

from runplan.jobs.attempts import TIME_FORMAT
from runplan.jobs.ledger import append
from runplan.jobs.look import look
from runplan.jobs.observe import JobState
from runplan.status.advice import next_commands
from runplan.status.document import status_document
from runplan.status.group import group_status
from runplan.status.rows import failures, heading
from runplan.status.screen import make_console, parts, print_status

OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.15 GiB."
SHOWN = Path(__file__).parent / "data" / "status"


NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def ago(seconds):
    return (NOW - timedelta(seconds=seconds)).strftime(TIME_FORMAT)


class Group:
    """A group of which every job's id is its place in the plan, 100 and on."""

    def __init__(self, path, *runs):
        settings = config()
        settings.epochs = 2
        names = ["1B_rank4", "3B_rank4", "3B_rank64", "a'; echo x", "8B_rank4"]
        runs = runs or [trained(name, f"tok{i}", config=settings) for i, name in enumerate(names)] + [control()]
        self.written = write_group(path, *runs)
        self.jobs = {job.name: job for job in self.written.jobs}
        self.ids = {job.token: str(100 + i) for i, job in enumerate(self.written.jobs)}
        self.queue = ""

    def submit(self, *prefixes):
        tokens = [job.token for name, job in self.jobs.items() if name.startswith(prefixes)]
        submitted(self.written, {token: self.ids[token] for token in tokens}, ago(4000))

    def began(self, name, seconds, code=None, lasted=0, log=b""):
        job = self.jobs[name]
        number = self.ids[job.token]
        told(job.directory, "started", job.token, number, ago(seconds))
        if code is not None:
            told(job.directory, "ended", job.token, number, ago(seconds - lasted), exit_code=code, seconds=lasted)
        path = job.directory / f"slurm-{number}.out"
        path.write_bytes(log)
        os.utime(path, (NOW.timestamp(), NOW.timestamp() - 5))

    def queued(self, name, *said, **more):
        self.queue += queue_line(self.ids[self.jobs[name].token], *said, **more)

    def status(self):
        return group_status(self.written, replace(look(self.written), at=NOW))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A group with something of everything, seen at a fixed distance from its events."""
    group = Group(tmp_path / "group")
    group.submit("1B", "3B", "a'")
    group.began("1B_rank4", 3800, 0, 1000, bars(1, 250, 2.0, epoch=2))
    group.began("1B_rank4/eval/cap_epoch0", 2500, 0, 290)
    group.began("1B_rank4/eval/cap_epoch1", 100, log=b"cap | Steps: 5/ 10  50% | Samples:   5/ 10 |\n")
    group.queued("1B_rank4/eval/cap_epoch1", "RUNNING")
    group.began("3B_rank4", 900, log=bars(1, 150, 4.0))
    (group.jobs["3B_rank4"].directory / "gpu_metrics.csv").write_bytes(HEADER + SAMPLE % (0, 12083))
    group.queued("3B_rank4", "RUNNING")
    group.began("3B_rank64", 300, 1, 200, bars(1, 17, 2.0) + f"\nTraceback (most recent call last):\n{OOM}\n".encode())
    for name in group.jobs:
        if name.startswith("3B_rank64/"):
            group.queued(name, "CANCELLED", "Dependency")
        elif name.startswith(("3B_rank4/", "a'; echo x/")):
            group.queued(name, "PENDING", "Dependency")
    group.queued("a'; echo x", "PENDING", "Priority")
    group.queued("1B_base/eval/cap", "PENDING", "Resources")
    fake_slurm(tmp_path / "bin", monkeypatch, group.queue)
    return group


def test_states_are_those_of_the_training_and_then_of_the_evaluations(made):
    status = made.status()
    assert [run.state for run in status.runs] == [
        JobState.running, JobState.running, JobState.oom, JobState.pending, JobState.not_submitted, JobState.pending,
    ]  # fmt: skip
    assert [run.evaluated for run in status.runs] == [1, 0, 0, 0, 0, 0]
    assert status.states[JobState.running] == 2
    assert (status.failed, status.over) == (True, False)


def test_evaluations_say_what_they_owe_to_their_training(made):
    runs = {run.name: run for run in made.status().runs}
    first, second = runs["3B_rank4"].cells
    assert first.reason == second.reason == "waiting for the training"
    assert first.ends_at == runs["3B_rank4"].training.ends_at + timedelta(seconds=300)
    assert {cell.reason for cell in runs["3B_rank64"].cells} == {"its training did not complete (oom)"}


def test_totals(made):
    status = made.status()
    assert status.steps == (500 + 150 + 17, 2500)
    assert status.gpu_hours == pytest.approx((1000 + 900 + 200) * 2 / 3600, rel=0.02)
    assert (status.gpu_hours_p50, status.gpu_hours_p95) == (0.8, 1.2)
    assert status.ends_at is None, "nobody knows when what waits will begin"


def test_a_run_whose_evaluation_failed_is_trained(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained(cells=1), control())
    group.submit("1B")
    group.began("1B_rank4", 3800, 0, 1000, bars(1, 500, 2.0))
    for name in ("1B_rank4/eval/cap_epoch0", "1B_base/eval/cap"):
        group.began(name, 2500, 3, 60, b"boom\n")
    fake_slurm(tmp_path / "bin", monkeypatch)
    status = group.status()
    assert heading(status)[0] == "group: 2 runs: 1 trained but evals failed, 1 failed"
    assert "evals failed" in screen(status, None)


def test_the_end_of_a_group_is_that_of_its_last_job(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained())
    group.submit("1B")
    group.began("1B_rank4", 900, log=bars(1, 150, 4.0))
    group.queued("1B_rank4", "RUNNING")
    for name in group.jobs:
        if "/" in name:
            group.queued(name, "PENDING", "Dependency")
    fake_slurm(tmp_path / "bin", monkeypatch, group.queue)
    status = group.status()
    assert status.ends_at == status.runs[0].training.ends_at + timedelta(seconds=300)


def test_what_to_do_next(made):
    status = made.status()
    assert next_commands(status, "'a b'") == (
        "runplan submit 'a b'", "runplan submit 'a b' --only oom", "runplan collect 'a b'",
    )  # fmt: skip


def test_a_full_disk_is_told(tmp_path):
    group = Group(tmp_path / "group", trained())
    sight = look(group.written)
    assert sight.free_bytes > 0
    told = {free: group_status(group.written, replace(sight, free_bytes=free)).notes for free in (0, 2**20, None)}
    assert [len(notes) for notes in told.values()] == [1, 0, 0]
    assert "disk is full" in told[0][0]


def test_a_cell_that_was_cancelled_by_itself_is_named(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained())
    group.submit("1B")
    group.began("1B_rank4", 900, log=bars(1, 150, 4.0))
    group.queued("1B_rank4", "RUNNING")
    cell = next(name for name in group.jobs if "/" in name)
    group.queued(cell, "CANCELLED")
    fake_slurm(tmp_path / "bin", monkeypatch, group.queue)
    status = group.status()
    assert "runplan submit g --only cancelled" in next_commands(status, "g")
    assert f"{cell}: cancelled" in [said.text for said in failures(status)]


@pytest.mark.parametrize(
    ("code", "log"),
    [
        (127, b"finetune.slurm: no tune on PATH: install torchtune there"),
        (1, b"Traceback (most recent call last):\nModuleNotFoundError: No module named 'torchtune'\n"),
    ],
)
def test_what_an_environment_lacks_comes_before_another_try(tmp_path, monkeypatch, code, log):
    group = Group(tmp_path / "group", trained())
    group.submit("1B_rank4")
    group.began("1B_rank4", 900, code, 1, log)
    fake_slurm(tmp_path / "bin", monkeypatch)
    first, second = next_commands(group.status(), "g")
    assert first == (
        "# first install what the jobs lack, or plan again with another site.venv or site.conda_env: "
        f"runplan {group.written.document['command']} overwrite=true"
    )
    assert second == "runplan submit g --only failed"


def test_evaluations_of_a_training_that_failed_are_no_reason_to_submit(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained())
    token = group.jobs["1B_rank4"].token
    submitted(group.written, {token: group.ids[token]}, ago(4000))
    group.began("1B_rank4", 900, 1, 60, b"ValueError: no\n")
    fake_slurm(tmp_path / "bin", monkeypatch)
    status = group.status()
    assert [cell.state for cell in status.runs[0].cells] == [JobState.not_submitted] * 2
    command = f"{group.written.document['command']} overwrite=true"
    assert next_commands(status, "g") == (
        f"# first mend what ValueError is about: in place, or plan again with other settings: runplan {command}",
        "runplan submit g --only failed",
    )


def test_results_that_were_collected_are_not_to_be_collected(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained())
    group.submit("1B")
    for name in group.jobs:
        group.began(name, 900, 0, 60)
    fake_slurm(tmp_path / "bin", monkeypatch)
    assert "runplan collect g" in next_commands(group.status(), "g")
    (group.written.directory / "results.csv").touch()
    assert "runplan collect g" not in next_commands(group.status(), "g")
    os.utime(group.written.directory / "results.csv", (1e9, 1e9))
    assert "runplan collect g" in next_commands(group.status(), "g")


def test_what_ran_here_goes_on_here(made):
    status = made.status()
    here = replace(
        status,
        runs=tuple(
            replace(run, training=run.training and replace(run.training, job_id="local-7")) for run in status.runs
        ),
    )
    assert next_commands(here, "-g") == (
        "runplan submit ./-g --via local",
        "runplan submit ./-g --via local --only oom",
        "runplan collect ./-g",
    )


def test_earlier_attempts_count_as_used(tmp_path, monkeypatch):
    group = Group(tmp_path / "group", trained(cells=0))
    train = group.jobs["1B_rank4"]
    submitted(group.written, {train.token: "90"}, ago(9000))
    group.submit("1B")
    told(train.directory, "started", train.token, "90", ago(8000))
    told(train.directory, "ended", train.token, "90", ago(6200), exit_code=1, seconds=1800)
    group.began("1B_rank4", 3600)
    fake_slurm(tmp_path / "bin", monkeypatch, "", account_line("100", "TIMEOUT", "0:1", 1800))
    status = group.status()
    assert status.gpu_hours == pytest.approx(2.0)
    (run,) = status.runs
    assert (run.training.attempts, run.training.seconds, status.over, status.failed) == (2, 1800.0, True, True)


def test_what_is_wrong_with_the_group_is_named(made, monkeypatch, tmp_path):
    with (made.written.directory / "ledger.jsonl").open("a") as file:
        file.write('{"cut sh\n' + json.dumps({"event": "intent", "token": "stranger", "time": ""}) + "\n")
    shutil.rmtree(made.jobs["8B_rank4"].directory)
    shutil.rmtree(made.jobs["3B_rank4/eval/cap_epoch1"].directory)
    fake_slurm(tmp_path / "silent", monkeypatch, None)
    notes = made.status().notes
    assert notes[0].startswith("SLURM does not answer")
    assert notes[1] == "ledger.jsonl: line 27 is passed over: cut short by a crash, or edited"
    assert notes[2] == (
        "directories that are gone: 3B_rank4/eval/cap_epoch1, 8B_rank4; plan the same again to write them anew"
    )
    assert notes[3] == "1 job of the ledger belongs to no run of plan.json any more"
    assert len(notes) == 4


def test_a_submission_that_was_cut_short_is_held(made):
    job = made.jobs["8B_rank4"]
    append(made.written.directory, [{"event": "intent", "token": job.token, "job_id": None, "path": job.path}])
    status = made.status()
    assert status.states[JobState.held] == 1
    assert "1 held: its submission is not recorded to the end" in screen(status, None)
    assert next_commands(status, "g")[0] == "runplan submit g"


def test_json_holds_everything_and_null_for_the_unknown(made):
    document = json.loads(json.dumps(status_document(made.status(), "group"), allow_nan=False))
    assert document["totals"]["states"] == {"not_submitted": 1, "pending": 2, "running": 2, "oom": 1}
    assert document["totals"]["jobs"] == dict(Counter(
        not_submitted=3, pending=6, running=2, completed=2, oom=1, cancelled=2))  # fmt: skip
    training = document["runs"][1]["training"]
    assert (training["state"], training["job_id"], training["done"], training["total"]) == ("running", "103", 150, 500)
    assert (training["gpu_memory_gib"], training["gpu_memory_source"]) == (11.8, "nvidia-smi")
    assert training["warning"].startswith("will hit its time limit of 30min")
    assert document["runs"][5]["training"] is None
    assert document["runs"][2]["training"]["reason"] == OOM
    assert document["runs"][3]["training"]["it_per_s"] is None
    assert document["totals"]["ends_at"] is None


def test_every_field_of_the_json_is_documented(made):
    from runplan.status import document as module

    document = status_document(made.status(), "group")
    names = {*document, *document["totals"], *document["runs"][0], *document["runs"][0]["training"]}
    assert [name for name in sorted(names) if f'"{name}"' not in module.__doc__] == []


def screen(status, width, **more):
    out = io.StringIO()
    print_status(status, "outputs/sweep", make_console(out, width), **more)
    return out.getvalue()


@pytest.fixture
def utc(monkeypatch):
    """Clocks that show the same everywhere."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("utc")
@pytest.mark.parametrize("width", [80, 120])
def test_the_screen_is_what_it_was(made, width):
    text = screen(made.status(), width).replace(str(made.written.directory), "/out/group")
    shown = SHOWN / f"{width}.txt"
    if os.environ.get("RUNPLAN_REGEN"):
        shown.write_text(text, encoding="utf-8")
    assert text.splitlines() == shown.read_text(encoding="utf-8").splitlines(), f"RUNPLAN_REGEN=1 accepts it: {shown}"


def test_no_line_is_wider_than_the_terminal_but_what_is_to_be_copied(made):
    for width in (40, 60, 80, 100, 200):
        lines = screen(made.status(), width, cells=True).splitlines()
        assert [line for line in lines if len(line) > width and not line.startswith("    ")] == []


def test_cells_have_lines_of_their_own(made):
    text = screen(made.status(), None, cells=True)
    assert "  eval/cap_epoch1  running" in text
    assert "5/10" in text


def test_a_terminal_that_knows_only_ascii_is_served(made):
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    print_status(made.status(), "g", make_console(out, 100))
    assert b"x 3B_rank64: oom" in raw.getvalue()
    assert b"?" not in raw.getvalue()


def test_what_does_not_fit_a_low_screen_is_counted_and_what_failed_stays(made):
    status = made.status()
    console = make_console(io.StringIO(), 120)
    for part in parts(status, "g", 120, height=12):
        console.print(part)
    shown = console.file.getvalue()
    assert "3 more: 2 pending, 1 not submitted" in shown
    assert "3B_rank64" in shown
    assert "8B_rank4" not in shown


def test_a_piped_table_has_no_escapes_and_names_that_hide_nothing(tmp_path):
    group = Group(tmp_path / "group", trained("new\nline\x1b[31m", "tok1"))
    text = screen(group.status(), None)
    assert "\x1b" not in text
    assert "new\nline" not in text
