"""submit_all.sh with a SLURM that only pretends: what it refuses, what it finds again, what it never does twice."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from job_plans import cell, control, fake_program, plan, run, write

from runplan.facts import Status
from runplan.plan import Check

SBATCH = r"""
printf '%s\n' "$PWD $*" >>"$SLURM/asked"
[ ! -e "$SLURM/refuse" ] || { echo "sbatch: error: no" >&2; exit 1; }
id=$(($(wc -l <"$SLURM/asked") + 100))
echo "${SAYS:-$id}"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder: `asked` has a line a call of sbatch, `queue` and `sacct` what these answer, `known` ids of jobs."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("asked", "queue", "known", "sacct"):
        (folder / name).touch()
    programs = tmp_path / "bin"
    fake_program(programs, "sbatch", SBATCH)
    fake_program(programs, "squeue", 'cat "$SLURM/queue"')
    fake_program(programs, "scontrol", 'grep -qx "$3" "$SLURM/known"')
    fake_program(programs, "sacct", 'cat "$SLURM/sacct"')
    monkeypatch.setenv("SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return folder


def make(tmp_path: Path, *runs, **more) -> Path:
    things = tmp_path / "the things"
    things.mkdir()
    for name in ("config.json", "words.json", "inspect.py"):
        (things / name).touch()
    found = [
        replace(
            each,
            model=replace(each.model, path=str(things)),
            dataset=replace(each.dataset, path=str(things / "words.json")),
            cells=tuple(replace(one, script=str(things / "inspect.py")) for one in each.cells),
        )
        for each in runs
    ]
    return write(plan(*found, directory=str(tmp_path / "a'; echo x"), **more))


def submit(group: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(group / "submit_all.sh")]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")


def asked(slurm: Path) -> list[str]:
    return (slurm / "asked").read_text().splitlines()


def ledger(group: Path) -> list[dict]:
    return [json.loads(line) for line in (group / "ledger.jsonl").read_text().splitlines()]


def test_trainings_first_cells_after_them_controls_at_once(slurm, tmp_path):
    group = make(tmp_path, run("r 1", cells=(cell(0), cell(1))), control())
    done = submit(group)
    assert (done.returncode, done.stderr) == (0, "")
    calls = [re.sub("--comment=runplan:tok[-0-9a-f]+ ", "", call) for call in asked(slurm)]
    assert calls == [
        f"{group}/r 1 --parsable --output=slurm-%j.out finetune.slurm",
        *(
            f"{group}/r 1/eval/cap_epoch{epoch} --parsable --dependency=afterok:101 --kill-on-invalid-dep=yes "
            "--output=slurm-%j.out cell.slurm"
            for epoch in (0, 1)
        ),
        f"{group}/1B_base/eval/cap --parsable --output=slurm-%j.out cell.slurm",
    ]
    assert " --comment=runplan:tok1 " in asked(slurm)[0]
    events = [(line["event"], line["job_id"], line["path"]) for line in ledger(group)]
    assert events[:2] == [("intent", None, "r 1/finetune.slurm"), ("submitted", "101", "r 1/finetune.slurm")]
    assert [event for event, *_ in events] == ["intent", "submitted"] * 4
    again = submit(group)
    assert (again.returncode, len(asked(slurm)), len(ledger(group))) == (0, 4, 8)


def test_without_sbatch_it_says_so_once_and_touches_nothing(slurm, tmp_path, monkeypatch):
    group = make(tmp_path, run())
    (tmp_path / "bin" / "sbatch").unlink()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    done = subprocess.run(["/bin/bash", str(group / "submit_all.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no sbatch on PATH" in done.stderr
    assert not (group / "ledger.jsonl").exists()


def test_what_is_missing_is_said_with_its_fix_and_nothing_submitted(slurm, tmp_path):
    model = str(tmp_path / "the things")
    checks = (Check("model", "1B", model, Status.missing, "not there", "get it's 'model'"),)
    group = make(tmp_path, run(cells=(cell(),)), checks=checks)
    for name in ("config.json", "inspect.py"):
        (tmp_path / "the things" / name).unlink()
    done = submit(group)
    assert (done.returncode, asked(slurm), (group / "ledger.jsonl").exists()) == (3, [], False)
    assert f"missing: model 1B: {model}/config.json (get it with: get it's 'model')" in done.stderr
    assert f"{model}/inspect.py" in done.stderr
    for name in ("config.json", "inspect.py"):
        (tmp_path / "the things" / name).touch()
    assert submit(group).returncode == 0


def test_what_was_invalid_stays_so_until_planned_again(slurm, tmp_path):
    checks = (Check("dataset", "words", "/d", Status.invalid, "no rows", "add rows."),)
    done = submit(make(tmp_path, run(), checks=checks))
    assert (done.returncode, asked(slurm)) == (3, [])
    assert "dataset words is not usable: no rows. add rows. Then plan again." in done.stderr


def test_a_refusal_is_no_submission_and_the_next_call_goes_on(slurm, tmp_path):
    group = make(tmp_path, run(cells=(cell(),)), *(run(f"r{i}", token=f"t{i}") for i in range(4)))
    (slurm / "refuse").touch()
    done = submit(group)
    assert (done.returncode, len(asked(slurm))) == (1, 3)
    assert "its training is not submitted" in done.stderr
    assert "three refusals in a row" in done.stderr
    assert "0 submitted, 0 already submitted, 6 not submitted" in done.stdout
    assert [line["event"] for line in ledger(group)] == ["intent", "refused"] * 3
    (slurm / "refuse").unlink()
    again = submit(group)
    assert (again.returncode, len(asked(slurm))) == (0, 3 + 6)


def test_a_full_queue_takes_the_rest_later(slurm, tmp_path):
    group = make(tmp_path, *(run(f"r{i}", token=f"t{i}") for i in range(4)))
    full = (
        '[ "$(wc -l <"$SLURM/asked")" -lt 2 ] || { echo "sbatch: error: AssocMaxSubmitJobLimit"; '
        'echo "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy"; exit 1; } >&2\n'
    )
    fake_program(tmp_path / "bin", "sbatch", full + SBATCH)
    done = submit(group)
    assert (done.returncode, len(asked(slurm))) == (1, 2)
    assert "2 submitted, 0 already submitted, 2 not submitted" in done.stdout
    assert "run this again as jobs end" in done.stderr
    assert "three refusals" not in done.stderr
    fake_program(tmp_path / "bin", "sbatch", SBATCH)
    assert "2 submitted, 2 already submitted, 0 not submitted" in submit(group).stdout


def test_an_answer_without_a_job_id_is_a_failure(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SAYS", "welcome to the cluster")
    group = make(tmp_path, run())
    assert submit(group).returncode == 1
    monkeypatch.setenv("SAYS", "welcome\n77;cluster")
    assert submit(group).returncode == 0
    assert ledger(group)[-1]["job_id"] == "77"


def intent(group: Path, text: str = "") -> None:
    line = {"event": "intent", "token": "tok1", "job_id": None, "path": "x", "time": "2026-01-02T03:04:05Z"}
    (group / "ledger.jsonl").write_text(json.dumps(line) + "\n" + text)


@pytest.mark.parametrize("source", ["queue", "sacct", "jobs"])
def test_a_job_whose_record_is_missing_is_found_by_its_token(source, slurm, tmp_path):
    group = make(tmp_path, run())
    intent(group, '{"event": "submitted", "token": "tok1", "job_')  # cut short by the crash
    if source == "jobs":
        started = {"event": "started", "token": "tok1", "kind": "train", "cell": None, "job_id": "55"}
        (group / "1B_rank4" / "jobs.jsonl").write_text(json.dumps(started) + "\n")
    else:
        other = "54|runplan:tok12|2026-03-01T00:00:00\n"
        (slurm / source).write_text(f"{other}55|runplan:tok1|2026-03-01T00:00:00\n")
    done = submit(group)
    assert (done.returncode, asked(slurm)) == (0, [])
    assert "found as job 55" in done.stdout
    last = json.loads((group / "ledger.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["token"], last["job_id"]) == ("submitted", "tok1", "55")
    assert submit(group).stdout.startswith("1B_rank4  already job 55")


def test_a_job_of_an_earlier_group_in_the_same_place_is_not_taken_for_this_one(slurm, tmp_path):
    group = make(tmp_path, run())
    intent(group)
    (slurm / "sacct").write_text("55|runplan:tok1|2025-12-31T00:00:00\n")
    assert submit(group).returncode == 0
    assert len(asked(slurm)) == 1


def test_what_a_user_wants_to_see_of_the_queue_hides_nothing(slurm, tmp_path, monkeypatch):
    group = make(tmp_path, run())
    monkeypatch.setenv("SQUEUE_PARTITION", "short")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%s")
    line = "55|runplan:tok1|2026-03-01T00:00:00"
    told = f'[ -n "$SQUEUE_PARTITION" ] || [ "$SLURM_TIME_FORMAT" != standard ] || echo "{line}"'
    fake_program(tmp_path / "bin", "squeue", told)
    assert submit(group).returncode == 0
    assert asked(slurm) == []


def test_a_run_that_was_started_by_hand_is_not_started_again(slurm, tmp_path):
    group = make(tmp_path, run())
    (slurm / "queue").write_text("55|runplan:tok1|2026-03-01T00:00:00\n")
    assert submit(group).returncode == 0
    assert asked(slurm) == []


@pytest.mark.parametrize("source", ["queue", "sacct"])
def test_a_job_that_works_in_a_copy_of_a_run_is_not_that_run_s(source, slurm, tmp_path):
    group = make(tmp_path, run())
    copy = tmp_path / "a copy"
    shutil.copytree(group / "1B_rank4", copy)
    (tmp_path / "link").symlink_to(group)
    if source == "sacct":
        intent(group)
    place = {"queue": f"{copy}/finetune.slurm", "sacct": str(copy)}[source]
    listed = f"55|runplan:tok1|2026-03-01T00:00:00|{place}\n"
    (slurm / source).write_text(listed)
    assert submit(group).returncode == 0
    assert len(asked(slurm)) == 1
    (group / "ledger.jsonl").unlink()
    (slurm / source).write_text(listed.replace("a copy", "link/1B_rank4"))
    if source == "sacct":
        intent(group)
    assert "found as job 55" in submit(group).stdout


def test_when_slurm_does_not_answer_nothing_is_risked(slurm, tmp_path):
    group = make(tmp_path, run(), run("new", token="tok2"))
    intent(group)
    fake_program(tmp_path / "bin", "squeue", "exit 1")
    done = submit(group)
    assert done.returncode == 1
    assert "submitted or not? SLURM does not answer" in done.stderr
    (call,) = asked(slurm)
    assert call.startswith(f"{group}/new ")  # which nobody began to submit


@pytest.mark.parametrize(
    ("known", "exit_code", "dependency", "code"),
    [(True, None, "--dependency=afterok:101", 0), (False, 0, "", 0), (False, 3, None, 1), (False, None, None, 1)],
)
def test_a_cell_never_depends_on_a_job_that_slurm_forgot(known, exit_code, dependency, code, slurm, tmp_path):
    bare = make(tmp_path, run())
    assert submit(bare).returncode == 0
    (tmp_path / "the things").rename(tmp_path / "old")
    group = make(tmp_path, run(cells=(cell(),)))
    if known:
        (slurm / "known").write_text("101\n")
    if exit_code is not None:
        ended = {"event": "ended", "token": "tok1", "job_id": "101", "exit_code": exit_code, "seconds": 1}
        (group / "1B_rank4" / "jobs.jsonl").write_text(json.dumps(ended) + "\n")
    done = submit(group)
    assert done.returncode == code
    calls = asked(slurm)[1:]
    if dependency is None:
        assert calls == []
        assert "its training (job 101) is over and did not succeed" in done.stderr
    else:
        assert len(calls) == 1
        assert (dependency in calls[0]) if dependency else ("--dependency" not in calls[0])


def test_it_waits_for_whoever_plans_or_submits(slurm, tmp_path):
    group = make(tmp_path, run())
    with (group / "ledger.jsonl").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        timer = threading.Timer(1.0, fcntl.flock, (held, fcntl.LOCK_UN))
        timer.start()
        done = submit(group)
        timer.join()
        assert timer.finished.is_set()
    assert (done.returncode, len(asked(slurm))) == (0, 1)


def test_two_at_once_submit_each_run_once(slurm, tmp_path):
    group = make(tmp_path, *(run(f"r{i}", token=f"t{i}") for i in range(5)))
    command = ["bash", str(group / "submit_all.sh")]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for each in both:
        each.communicate(timeout=60)
    assert [each.returncode for each in both] == [0, 0]
    assert len(asked(slurm)) == 5
