"""`runplan submit` with a SLURM that only pretends: what it asks, what it says, what it never does twice."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import real_groups
from job_plans import fake_program
from real_groups import ledger

from runplan.cli import main
from runplan.submit import command, sbatch_jobs

SBATCH = r"""
printf '%s\n' "$PWD $*" >>"$SLURM/asked"
if [ -n "${SAYS:-}" ]; then echo "$SAYS" >&2; exit 1; fi
id=$(($(wc -l <"$SLURM/asked") + 100))
echo "$id;cluster"
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """A folder: `asked` has a line a call of sbatch, `queue` and `sacct` what these answer."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("asked", "queue", "sacct", "scancel"):
        (folder / name).touch()
    programs = tmp_path / "bin"
    fake_program(programs, "sbatch", SBATCH)
    fake_program(programs, "squeue", 'cat "$SLURM/queue"')
    fake_program(programs, "sacct", 'cat "$SLURM/sacct"')
    fake_program(programs, "scancel", 'echo "$*" >>"$SLURM/scancel"')
    for name in ("scontrol", "sinfo", "sacctmgr"):
        fake_program(programs, name, "exit 1")
    monkeypatch.setenv("SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return folder


@pytest.fixture
def make(tmp_path):
    return lambda *args, **more: real_groups.group(tmp_path / "a'; echo x", "tok", *args, **more)


def asked(slurm: Path) -> list[str]:
    return (slurm / "asked").read_text().splitlines()


def queue(slurm: Path, *jobs: tuple[str, str, str]) -> None:
    """What squeue lists: job, state and token."""
    lines = [f"{job}|{job}|{state}|None|2026-01-01T00:00:00|N/A|runplan:{token}" for job, state, token in jobs]
    (slurm / "queue").write_text("\n".join(lines) + "\n")


def ended(group: Path, path: str, token: str, job_id: str, code: int) -> None:
    lines = [
        {"event": event, "token": token, "job_id": job_id, "time": "2026-01-01T00:00:00Z"}
        for event in ("started", "ended")
    ]
    lines[1] |= {"exit_code": code, "seconds": 9}
    with (group / path / "jobs.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def events(group: Path) -> list[tuple[str, str | None]]:
    return [(line["event"], line["job_id"]) for line in ledger(group)]


def test_trainings_then_their_cells_then_controls(slurm, make, capsys):
    group = make(1, 2)
    assert main(["submit", str(group)]) == 0
    calls = [line.removeprefix(f"{group}/") for line in asked(slurm)]
    assert calls[0] == "r0 --parsable --comment=runplan:tok-0 --output=slurm-%j.out finetune.slurm"
    waits = "--dependency=afterok:101 --kill-on-invalid-dep=yes cell.slurm"
    assert [call.endswith(waits) for call in calls] == [False, True, True, False]
    assert calls[3].startswith("1B_base/eval/cap --parsable --comment=runplan:tok-base-")
    expected = [pair for job in ("101", "102", "103", "104") for pair in (("intent", None), ("submitted", job))]
    assert events(group) == expected
    out = capsys.readouterr().out
    assert "4 submitted, 0 already submitted, 0 not submitted" in out
    assert (
        f"next: runplan status '{str(group).replace(chr(39), chr(39) + chr(34) + chr(39) + chr(34) + chr(39))}'" in out
    )


def test_again_is_nothing_new(slurm, make, capsys):
    group = make(1, 1)
    assert main(["submit", str(group)]) == 0
    queue(slurm, ("101", "PENDING", "tok-0"), ("102", "PENDING", "x"), ("103", "PENDING", "y"))
    before = (group / "ledger.jsonl").read_bytes()
    assert main(["submit", str(group), "--json"]) == 0
    found = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))
    assert (found["submitted"], len(found["already"]), found["not_submitted"]) == ([], 3, [])
    assert len(asked(slurm)) == 3
    assert (group / "ledger.jsonl").read_bytes() == before


def test_submit_all_sh_and_this_continue_each_other(slurm, make):
    import subprocess

    group = make(1, 1)
    assert main(["submit", str(group)]) == 0
    queue(slurm, *((str(job), "RUNNING", "z") for job in (101, 102, 103)))
    script = subprocess.run(["bash", group / "submit_all.sh"], capture_output=True, text=True, check=False, cwd="/")
    assert (script.returncode, len(asked(slurm))) == (0, 3), script.stderr
    (group / "ledger.jsonl").write_text("")
    assert subprocess.run(["bash", group / "submit_all.sh"], capture_output=True, check=False, cwd="/").returncode == 0
    queue(slurm, *((str(job), "RUNNING", "z") for job in (104, 105, 106)))
    assert main(["submit", str(group)]) == 0
    assert len(asked(slurm)) == 6


def test_another_attempt_for_what_failed(slurm, make, capsys):
    group = make(1, 1, base=False)
    assert main(["submit", str(group)]) == 0
    ended(group, "r0", "tok-0", "101", 1)
    queue(slurm, ("102", "CANCELLED", "x"))
    assert main(["submit", str(group)]) == 0
    said = capsys.readouterr().out
    assert "ended before: 1 failed, 1 cancelled; why: runplan status" in said
    assert "; again with: runplan submit" in said
    assert said.partition("again with: ")[2].splitlines()[0].endswith(" --only failed")
    assert main(["submit", str(group), "--only", "failed"]) == 0
    assert "afterok:103" in asked(slurm)[3]
    assert main(["submit", str(group), "--only", "failed"]) == 0  # it waits now
    assert len(asked(slurm)) == 4


def test_a_cell_that_waits_for_a_dead_training_is_replaced(slurm, make):
    group = make(1, 1, base=False)
    assert main(["submit", str(group)]) == 0
    ended(group, "r0", "tok-0", "101", 1)
    queue(slurm, ("102", "PENDING", "x"))
    assert main(["submit", str(group), "--only", "failed"]) == 0
    assert (slurm / "scancel").read_text() == "102\n"
    assert "afterok:103" in asked(slurm)[3]


def test_more_memory_for_what_had_too_little_and_the_crash_keeps_it(slurm, make, monkeypatch):
    group = make(1, 0, base=False, mem_gib=32)
    assert main(["submit", str(group)]) == 0
    (slurm / "sacct").write_text("101|101|OUT_OF_MEMORY|0:125|60||2026-01-01T00:00:00|2026-01-01T00:00:00|None|\n")
    monkeypatch.setenv("SAYS", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    assert main(["submit", str(group), "--only", "host_oom"]) == 1
    monkeypatch.delenv("SAYS")
    assert main(["submit", str(group)]) == 0  # carries on with what was begun
    assert ["--mem=48G" in call for call in asked(slurm)] == [False, True, True]
    assert ledger(group)[-2]["options"] == ["--mem=48G"]


@pytest.mark.parametrize("via", ["sbatch", "submit_all.sh"])
def test_what_is_refused_was_not_submitted(via, slurm, make, monkeypatch, capfd):
    import subprocess

    from runplan.files.existing_group import submitted_paths

    group = make(4, 1)
    monkeypatch.setenv("SAYS", "sbatch: error: Batch job submission failed: Invalid partition name specified")
    if via == "sbatch":
        assert main(["submit", str(group)]) == 1
    else:
        assert subprocess.run(["bash", group / "submit_all.sh"], check=False, cwd="/").returncode == 1
    assert len(asked(slurm)) == 3
    assert events(group) == [("intent", None), ("refused", None)] * 3
    said = capfd.readouterr()
    assert "Invalid partition name specified" in said.out + said.err
    assert "three refusals in a row" in said.out + said.err
    assert "plan" in (said.out + said.err).partition("three refusals in a row")[2]
    assert submitted_paths(group) == set()


def test_where_the_controller_is_away_nothing_is_begun(slurm, tmp_path, make, capsys):
    group = make(1, 0)
    fake_program(tmp_path / "bin", "scontrol", "echo 'Slurmctld(primary) at one is DOWN'; exit 1")
    assert main(["submit", str(group)]) == 1
    assert "away" in capsys.readouterr().err
    done = subprocess.run(["bash", group / "submit_all.sh"], check=False, cwd="/", capture_output=True, text=True)
    assert (done.returncode, "away" in done.stderr) == (1, True)
    assert asked(slurm) == []
    assert not (group / "ledger.jsonl").exists()


def test_no_answer_stops_at_once_and_is_cleared_up_later(slurm, make, monkeypatch, capsys):
    group = make(2, 1)
    monkeypatch.setenv("SAYS", "sbatch: error: Batch job submission failed: Unable to contact slurm controller")
    assert main(["submit", str(group)]) == 1
    assert (len(asked(slurm)), events(group)) == (1, [("intent", None)])
    assert "SLURM does not answer; run the same again later" in capsys.readouterr().err
    monkeypatch.delenv("SAYS")
    fake_program(slurm.parent / "bin", "squeue", "exit 1")
    assert main(["submit", str(group)]) == 1
    assert "r0  not submitted: submitted or not? SLURM does not answer" in capsys.readouterr().out
    fake_program(slurm.parent / "bin", "squeue", 'cat "$SLURM/queue"')
    assert main(["submit", str(group), "--json"]) == 0
    assert [job for event, job in events(group) if event == "submitted" and job == "101"] == []


def test_jobs_of_which_slurm_says_nothing_are_not_called_ended(slurm, make, capsys):
    group = make(1, 1)
    assert main(["submit", str(group)]) == 0
    fake_program(slurm.parent / "bin", "squeue", "exit 1")
    capsys.readouterr()
    assert main(["submit", str(group)]) == 1
    said = capsys.readouterr().out
    assert "whether job 101 is over is not known (SLURM does not answer); run this again later" in said
    assert "ended" not in said
    assert "--only" not in said


def test_when_slurm_does_not_answer_nothing_is_tried_again(slurm, make, capsys):
    group = make(1, 1)
    assert main(["submit", str(group)]) == 0
    fake_program(slurm.parent / "bin", "squeue", "exit 1")
    assert main(["submit", str(group), "--only", "failed,unknown"]) == 1
    assert "SLURM does not answer (squeue)" in capsys.readouterr().err
    assert len(asked(slurm)) == 3


def test_what_is_missing_is_named_at_once(slurm, make, capsys):
    group = make(1, 1)
    document = json.loads((group / "plan.json").read_text())
    things = group.parent / "things"
    row = {"kind": "model", "name": "Tiny", "path": str(things), "status": "ok", "detail": "", "fix": "get it",
           "files": ["config.json", "a.safetensors", "b.safetensors"]}  # fmt: skip
    (group / "plan.json").write_text(json.dumps(document | {"verified": [row]}))
    (things / "words.json").unlink()
    assert main(["submit", str(group)]) == 3
    said = capsys.readouterr().err
    assert f"model Tiny is missing: {things}/a.safetensors and 1 more\n      get it" in said
    assert f"dataset {things}/words.json is missing" in said
    assert asked(slurm) == []
    for name in ("a.safetensors", "b.safetensors", "words.json"):
        (things / name).touch()
    assert main(["submit", str(group)]) == 0


def test_data_of_a_training_that_is_done_is_not_needed(slurm, make):
    group = make(1, 1, base=False)
    ended(group, "r0", "tok-0", "55", 0)
    (group.parent / "things" / "words.json").unlink()
    assert main(["submit", str(group)]) == 0
    assert len(asked(slurm)) == 1
    assert "--dependency" not in asked(slurm)[0]


def test_what_is_not_usable_is_refused(slurm, make, capsys):
    group = make(1, 0)
    document = json.loads((group / "plan.json").read_text())
    row = {"kind": "dataset", "name": "words", "path": str(group.parent / "things" / "words.json"), "status": "invalid",
           "detail": "3 rows lack output", "fix": "Repair it."}  # fmt: skip
    (group / "plan.json").write_text(json.dumps(document | {"verified": [row]}))
    assert main(["submit", str(group)]) == 3
    assert (
        "dataset words is not usable: 3 rows lack output\n      Repair it. Then plan again." in capsys.readouterr().err
    )


def test_a_run_that_is_gone_is_left_and_the_rest_goes_on(slurm, make, capsys):
    group = make(2, 1)
    shutil.rmtree(group / "r0")
    assert main(["submit", str(group)]) == 1
    out = capsys.readouterr().out
    assert "r0/finetune.slurm is gone; plan the same again" in out
    assert "r0/eval/cap_epoch0  not submitted: its training is not submitted" in out
    assert "3 submitted, 0 already submitted, 2 not submitted" in out


def test_an_edited_ledger_is_said_and_every_job_is_looked_for(slurm, make, capsys):
    group = make(1, 1)
    assert main(["submit", str(group)]) == 0
    tokens = [line["token"] for line in ledger(group) if line["job_id"]]
    queue(slurm, *((str(101 + i), "RUNNING", token) for i, token in enumerate(tokens)))
    text = (group / "ledger.jsonl").read_text()
    (group / "ledger.jsonl").write_text(text.replace('"token": "tok-0"', "mine", 2))
    assert main(["submit", str(group)]) == 0
    said = capsys.readouterr()
    assert "line 1, 2 cannot be read and is ignored" in said.err
    assert len(asked(slurm)) == 3


def test_a_line_cut_short_by_a_crash(slurm, make):
    group = make(1, 0, base=False)
    assert main(["submit", str(group)]) == 0
    text = (group / "ledger.jsonl").read_text()
    (group / "ledger.jsonl").write_text(text[:-20])
    ended(group, "r0", "tok-0", "101", 0)
    assert main(["submit", str(group)]) == 0
    assert len(asked(slurm)) == 1
    assert events_readable(group)[-1] == ("submitted", "101")


def events_readable(group: Path) -> list[tuple[str, str]]:
    found = []
    for line in (group / "ledger.jsonl").read_text().splitlines():
        try:
            found.append((json.loads(line)["event"], json.loads(line)["job_id"]))
        except ValueError:
            continue
    return found


def test_a_full_disk_is_said_and_nothing_is_lost(slurm, make, monkeypatch, capsys):
    group = make(1, 1)
    real, calls = sbatch_jobs.append, []

    def full(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*args)

    monkeypatch.setattr(sbatch_jobs, "append", full)
    assert main(["submit", str(group)]) == 1
    assert "No space left on device); job 101 is submitted and will be found by its token" in capsys.readouterr().err
    monkeypatch.undo()


def test_who_has_to_wait_too_long_is_told(slurm, make, monkeypatch, capsys):
    group = make(1, 0)
    monkeypatch.setattr(command, "WAIT_S", 0.1)
    with (group / "ledger.jsonl").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert main(["submit", str(group)]) == 1
    assert "another runplan plans or submits this group" in capsys.readouterr().err


def test_without_slurm_the_way_here_is_named(make, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["submit", str(make(1, 0))]) == 1
    assert "--via local" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "GROUP"),
        (["/no/such"], 2, "no such directory"),
        (["/no/such", "--via", "pigeon"], 2, "--via"),
        (["/no/such", "--only", "faild"], 2, "'faild' is no ending of a job"),
    ],
)
def test_wrong_usage(words, code, said, capsys):
    assert main(["submit", *words]) == code
    assert said in capsys.readouterr().err


def test_a_directory_that_is_no_group_gets_no_ledger(tmp_path, capsys):
    assert main(["submit", str(tmp_path)]) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_signal_waits_for_the_call_under_way(slurm, make):
    group = make(3, 0, base=False)
    fake_program(slurm.parent / "bin", "sbatch", SBATCH.replace("if [", f"kill -INT {os.getpid()}; sleep 0.2; if [", 1))
    assert main(["submit", str(group)]) == 1
    assert events(group) == [("intent", None), ("submitted", "101")]


def test_a_second_signal_is_not_waited_for(slurm, make):
    group = make(3, 0, base=False)
    kill = "kill -INT $PPID; sleep 0.2; "
    fake_program(slurm.parent / "bin", "sbatch", SBATCH.replace("if [", f"{kill}{kill}sleep 9; if [", 1))
    line = [sys.executable, "-m", "runplan", "submit", str(group)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])}
    done = subprocess.run(line, env=env, check=False, timeout=8, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 130
    assert events(group) == [("intent", None)]


def test_on_this_machine(make, tmp_path, monkeypatch, capsys):
    folder = real_groups.programs(tmp_path / "programs")
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    group = make(1, 0)
    monkeypatch.setenv("TUNE", "exit 1")
    assert main(["submit", str(group), "--via", "local", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["failed"], found["completed"]) == (["r0"], ["1B_base/eval/cap"])
    monkeypatch.setenv("TUNE", "exit 0")
    assert main(["submit", str(group), "--via", "local"]) == 0
    assert "ended before: 1 failed" in capsys.readouterr().out
    assert main(["submit", str(group), "--via", "local", "--only", "failed"]) == 0
    assert main(["submit", str(group), "--via", "local"]) == 0
    assert "2 already submitted" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("later", "waits", "left"),
    [("RUNNING", True, ""), ("COMPLETED", False, ""), ("FAILED", None, "ended: failed"), (None, None, "ended: ")],
)
def test_a_training_is_looked_at_again_before_a_cell_waits_for_it(later, waits, left, slurm, make, monkeypatch, capsys):
    group = make(1, 1, base=False)
    line = {"event": "submitted", "token": "tok-0", "job_id": "9", "path": "x", "time": "2026-01-01T00:00:00Z"}
    (group / "ledger.jsonl").write_text(json.dumps(line) + "\n")
    queue(slurm, ("9", "RUNNING", "tok-0"))
    listed = "" if later is None else f"9|9|{later}|None|2026-01-01T00:00:00|N/A|runplan:tok-0"
    fake_program(slurm.parent / "bin", "squeue", f'cat "$SLURM/queue"; echo "{listed}" >"$SLURM/queue"')
    monkeypatch.setattr(sbatch_jobs, "FRESH_S", -1.0)
    assert main(["submit", str(group)]) == (0 if waits is not None else 1)
    assert ["--dependency=afterok:9" in call for call in asked(slurm)] == ([] if waits is None else [waits])
    assert left in capsys.readouterr().out


@pytest.mark.parametrize("forgotten", [True, False])
def test_so_is_one_that_was_submitted_a_while_ago_in_the_same_call(forgotten, slurm, make, monkeypatch):
    group = make(1, 1, base=False)
    monkeypatch.setattr(sbatch_jobs, "FRESH_S", -1.0)
    if not forgotten:
        queue(slurm, ("101", "PENDING", "not looked at"))
    assert main(["submit", str(group)]) == int(forgotten)
    assert ["afterok:101" in call for call in asked(slurm)] == ([False] if forgotten else [False, True])


def test_at_plan_time(make, slurm, monkeypatch):
    from runplan import group as planning

    made = make(1, 1)
    plan = type("Plan", (), {"directory": str(made)})
    assert planning._submit(plan, "sbatch") == 0
    assert len(asked(slurm)) == 3


@pytest.mark.parametrize(
    ("steps", "resumed", "saved", "asked_for"),
    [(100, None, 0, "--time=04:50:00"), (100, None, 2, "--time=02:25:00"), (200, 0, 2, "--time=02:25:00")],
    ids=["nothing saved", "saved", "after an attempt that continued another"],
)
def test_more_time_is_learnt_from_the_log_and_from_what_is_saved(steps, resumed, saved, asked_for, slurm, make):
    group = make(1, 0, base=False, time_s=3600)
    document = json.loads((group / "plan.json").read_text())
    document["runs"][0]["steps"] = {"per_epoch": 100, "total": 400}
    document["runs"][0]["config"]["epochs"] = 4
    (group / "plan.json").write_text(json.dumps(document))
    assert main(["submit", str(group)]) == 0
    (slurm / "sacct").write_text("101|101|TIMEOUT|0:0|3600||2026-01-01T00:00:00|2026-01-01T00:00:00|None|\n")
    bar = "1|{0}|Loss: 6.1945:  25%|##5       | {0}/100 [{0}:00<30:00, 36.0s/it]\r"
    (group / "r0" / "slurm-101.out").write_text("".join(bar.format(step) for step in range(1, steps + 1)))
    token = document["runs"][0]["token"]
    config = hashlib.sha256((group / "r0" / "finetune.yaml").read_bytes()).hexdigest()
    attempt = {"event": "attempt", "token": token, "kind": "train", "job_id": "101", "config": "finetune.yaml",
               "resumed_epoch": resumed, "sha256": config}  # fmt: skip
    started = {"event": "started", "token": token, "kind": "train", "job_id": "101"}
    (group / "r0" / "jobs.jsonl").write_text(f"{json.dumps(started)}\n{json.dumps(attempt)}\n")
    for epoch in range(saved):
        real_groups.save_epoch(group / "r0", epoch)
    (group / "r0" / "artifacts" / f"epoch_{saved}").mkdir(parents=True)  # what was being written says nothing
    assert main(["submit", str(group), "--only", "timeout"]) == 0
    assert asked_for in asked(slurm)[1]


def test_jobs_of_the_ledger_s_owner_count_too(slurm, make, monkeypatch):
    group = make(1, 0, base=False)
    fake_program(slurm.parent / "bin", "squeue", 'echo "$*" >>"$SLURM/asked_squeue"')
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    assert main(["submit", str(group)]) == 0
    owner = group.stat().st_uid
    assert f"-u {owner},4242 " in (slurm / "asked_squeue").read_text()
