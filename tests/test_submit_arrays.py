"""Through submitit: the same request, one array for equal ones, each task in its own run."""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import real_groups
from job_plans import fake_program, request
from test_submit_due import job

from runplan.cli import main
from runplan.files.written import read_group
from runplan.plan import Request
from runplan.submit.arrays import Batch, batches, batches_after, parameters, setup
from runplan.submit.due import Due
from runplan.submit.request import request_of
from runplan.units import parse_memory_gib, parse_slurm_time

SMALL = {"time": "00:10:00", "mem": "1G", "cpus_per_task": 1, "gpus": 0}
SBATCH = r"""
echo "$PWD $*" >>"$SLURM/asked"
cat "${@: -1}" >>"$SLURM/scripts"
if [ -n "${SAYS:-}" ]; then echo "$SAYS" >&2; exit 1; fi
echo "Submitted batch job $(($(wc -l <"$SLURM/asked") + 100))"
"""
FULL_OPTIONS = {
    "gpus": 2, "cpus_per_task": 9, "mem_gib": 77, "time_s": 5400, "partition": "gpu", "account": "lab", "qos": "high",
    "constraint": "a&b", "exclude": "n[1-3]", "nodes": 1, "extra": ("--mail-type=END", "--nice"),
}  # fmt: skip


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    folder = tmp_path / "slurm"
    folder.mkdir()
    fake_program(tmp_path / "bin", "sbatch", SBATCH)
    for name in ("squeue", "srun"):
        fake_program(tmp_path / "bin", name, "")
    fake_program(tmp_path / "bin", "sacct", "exit 1")
    monkeypatch.setenv("SLURM", str(folder))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return folder


def due(name: str, after: str | None = None, options: tuple[str, ...] = (), **resources) -> Due:
    return Due(replace(job(name, after), resources=SMALL | resources), options, after)


def names(found: list[Batch]) -> list[list[str]]:
    return [[each.job.token for each in batch.due] for batch in found]


def test_equal_requests_go_together_whatever_they_are_called():
    found = batches(
        [due("a", job_name="a"), due("b", mem="2G"), due("c", job_name="c"), due("d", options=("--mem=2G",))]
    )
    assert names(found) == [["a", "c"], ["b", "d"]]


def test_trainings_and_cells_are_never_tasks_of_one_array():
    assert names(batches([due("a"), due("base/e")])) == [["a"], ["base/e"]]


def test_an_array_is_at_most_as_large_as_slurm_takes():
    assert [len(batch.due) for batch in batches([due(f"r{n}") for n in range(7)], largest=3)] == [3, 3, 1]


def test_cells_wait_task_by_task_where_the_whole_array_is_waited_for():
    cells = [due("a/e0", "a"), due("b/e0", "b"), due("a/e1", "a"), due("c/e0", "c")]
    jobs = {"a": "7_1", "b": "7_0", "c": "9"}
    found = batches_after(cells, jobs, {"7": 2})
    assert names(found) == [["b/e0", "a/e0"], ["c/e0"], ["a/e1"]]
    assert [batch.dependency for batch in found] == ["aftercorr:7", "afterok:9", "afterok:7_1"]


def test_an_array_of_an_earlier_call_is_not_waited_for_as_a_whole():
    found = batches_after([due("a/e0", "a"), due("b/e0", "b")], {"a": "7_0", "b": "7_1"}, {})
    assert [batch.dependency for batch in found] == ["afterok:7_0", "afterok:7_1"]


def test_halves_keep_everything():
    whole = Batch(tuple(due(f"r{n}") for n in range(5)), "x")
    assert [len(half.due) for half in whole.halves()] == [2, 3]
    assert [each for half in whole.halves() for each in half.due] == [*whole.due]


def test_parts_keep_everything():
    whole = Batch(tuple(due(f"r{n}") for n in range(5)), "x")
    assert [len(part.due) for part in whole.parts(2)] == [2, 2, 1]
    assert [each for part in whole.parts(2) for each in part.due] == [*whole.due]
    assert len(whole.parts(0)) == 5


def test_each_task_runs_its_own_script(tmp_path):
    runs = []
    for name in ("a'; echo x", "b $(id)", "c\nd"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "finetune.slurm").write_text('pwd; echo "$1"')
        runs.append(Due(replace(job("a"), directory=tmp_path / name)))
    script = "\n".join(setup(Batch(tuple(runs))))
    for number, each in enumerate(runs):
        task = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number), "PATH": "/usr/bin:/bin"}
        said = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/", env=task
        ).stdout
        assert said == f"{each.job.directory}\n7_{number}\n"
    lost = subprocess.run(
        ["bash", "-c", script], check=False, env={"SLURM_ARRAY_TASK_ID": "9", "PATH": "/usr/bin:/bin"}
    )
    assert lost.returncode == 1


def options_of(script: str) -> dict[str, object]:
    """What the `#SBATCH` lines of a script ask for, in the same words however they say it."""
    same = {"nodes": int, "ntasks": int, "cpus-per-task": int, "time": parse_slurm_time,
            "mem": lambda text: parse_memory_gib(text.removesuffix("B"))}  # fmt: skip
    found: dict[str, object] = {}
    for line in script.splitlines():
        if line.startswith("#SBATCH "):
            (word,) = shlex.split(line.removeprefix("#SBATCH "))
            key, _, value = word.removeprefix("--").partition("=")
            key = {"ntasks-per-node": "ntasks"}.get(key, key)
            found[key] = same[key](value) if key in same else value
    return found


@pytest.mark.parametrize("asked", [{}, FULL_OPTIONS, {"gres": "gpu:a100:2", "gpus": 2}, {"mem_gib": 3, "time_s": 300}])
def test_sbatch_gets_the_same_request_either_way(asked, slurm, tmp_path):
    group = real_groups.group(tmp_path / "g", "tok", 1, 0, base=False, **asked)
    assert main(["submit", str(group), "--via", "submitit"]) == 0
    through = options_of((slurm / "scripts").read_text())
    plain = options_of((group / "r0" / "finetune.slurm").read_text())
    own = {"signal": "USR2@90", "wckey": "submitit"}  # for steps, of which there are none; a label
    assert {key: through.pop(key) for key in own} == own
    assert through == plain


def test_a_request_survives_plan_json(tmp_path):
    group = real_groups.group(tmp_path / "g", "tok", 1, 0, base=False, **FULL_OPTIONS)
    (training,) = read_group(group).jobs
    assert request_of(training.resources) == request("r0", **FULL_OPTIONS) == Request(job_name="r0", **FULL_OPTIONS)
    more = request_of(training.resources, ("--mem=99G", "--time=03:00:00"))
    assert (more.mem_gib, more.time_s) == (99, 10800)


def test_a_group_of_equal_runs_is_one_array_and_its_cells_another(slurm, tmp_path, capsys):
    group = real_groups.group(tmp_path / "the group", "tok", 3, 2)
    assert main(["submit", str(group), "--via", "submitit", "--json"]) == 0
    calls = (slurm / "asked").read_text().splitlines()
    assert len(calls) == 4
    assert all(call.startswith(f"{group}/.submitit ") for call in calls)
    scripts = (slurm / "scripts").read_text()
    assert scripts.count("--array=0-2%3") == 3
    assert scripts.count("--dependency=aftercorr:101") == 2
    lines = real_groups.ledger(group)
    jobs = {line["path"]: line["job_id"] for line in lines if line["event"] == "submitted"}
    assert jobs["r1/finetune.slurm"] == "101_1"
    assert jobs["1B_base/eval/cap/cell.slurm"] == "102"
    assert jobs["r2/eval/cap_epoch1/cell.slurm"] == "104_2"
    intents = [line for line in lines if line["event"] == "intent"]
    assert [line.get("task") for line in intents] == [0, 1, 2, None, 0, 1, 2, 0, 1, 2]
    assert {line["via"] for line in intents} == {"submitit"}
    assert len({line["array"] for line in intents if "array" in line}) == 3
    assert json.loads(capsys.readouterr().out)["submitted"][0]["job_id"] == "101_0"


def test_a_refused_array_is_no_submission(slurm, tmp_path, monkeypatch, capsys):
    group = real_groups.group(tmp_path / "g", "tok", 2, 1)
    monkeypatch.setenv("SAYS", "sbatch: error: Batch job submission failed: Invalid account or account/partition")
    assert main(["submit", str(group), "--via", "submitit"]) == 1
    events = [(line["event"], line["path"]) for line in real_groups.ledger(group)]
    assert [event for event, _ in events] == ["intent", "intent", "refused", "refused", "intent", "refused"]
    said = capsys.readouterr()
    assert "r0  not submitted: refused: Invalid account or account/partition" in said.out
    assert said.err == ""


@pytest.mark.parametrize("told", ["MaxArraySize            = 2", ""])
def test_where_slurm_takes_smaller_arrays_they_are_smaller(told, slurm, tmp_path, capsys):
    no = "sbatch: error: Batch job submission failed: Invalid job array specification"
    limit = f"""n=$(sed -n 's/^#SBATCH --array=0-\\([0-9]*\\)%.*/\\1/p' "${{@: -1}}")
if [ "${{n:-0}}" -gt 1 ]; then echo "{no}" >&2; echo >>"$SLURM/refused"; exit 1; fi{SBATCH}"""
    fake_program(tmp_path / "bin", "sbatch", limit)
    fake_program(tmp_path / "bin", "scontrol", f"echo '{told}'; [ -n '{told}' ]")
    group = real_groups.group(tmp_path / "g", "tok", 5, 1)
    assert main(["submit", str(group), "--via", "submitit"]) == 0
    assert "11 submitted" in capsys.readouterr().out
    jobs = {line["path"]: line["job_id"] for line in real_groups.ledger(group) if line["event"] == "submitted"}
    assert [jobs[f"r{n}/finetune.slurm"] for n in range(5)] == ["101_0", "101_1", "102_0", "102_1", "103"]
    assert (slurm / "scripts").read_text().count("--dependency=aftercorr:10") == 2
    assert (slurm / "refused").read_text() == "\n"


def test_no_answer_leaves_the_array_open(slurm, tmp_path, monkeypatch, capsys):
    group = real_groups.group(tmp_path / "g", "tok", 2, 0, base=False)
    monkeypatch.setenv("SAYS", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation")
    assert main(["submit", str(group), "--via", "submitit"]) == 1
    array = real_groups.ledger(group)[0]["array"]
    fake_program(tmp_path / "bin", "squeue", f"echo '55_[0-1]|55|PENDING|None|2100-01-01T00:00:00|N/A|runplan:{array}'")
    monkeypatch.delenv("SAYS")
    main(["submit", str(group)])
    assert [line["job_id"] for line in real_groups.ledger(group)] == [None, None, "55_0", "55_1"]


def test_short_options_and_odd_directories_are_refused_in_our_words(slurm, tmp_path, capsys):
    group = real_groups.group(tmp_path / "g", "tok", 1, 0, base=False, extra=("-N2",))
    assert main(["submit", str(group), "--via", "submitit"]) == 1
    assert "submitit takes long options only" in capsys.readouterr().out
    odd = real_groups.group(tmp_path / "50%", "tok", 1, 0, base=False)
    assert main(["submit", str(odd), "--via", "submitit"]) == 1
    assert "use --via sbatch" in capsys.readouterr().err


def test_parameters_name_an_array_by_its_group():
    batch = Batch((due("a", job_name="a"), due("b", job_name="b")))
    assert parameters(batch, "array-1", "sweep")["name"] == "sweep"
    assert parameters(Batch(batch.due[:1]), "tok", "sweep")["name"] == "a"


def test_what_submitit_makes_is_in_the_group(slurm, tmp_path):
    group = real_groups.group(tmp_path / "g", "tok", 2, 0, base=False)
    here = {path.name for path in Path.cwd().iterdir()}
    assert main(["submit", str(group), "--via", "submitit"]) == 0
    assert {path.name for path in Path.cwd().iterdir()} == here
    assert (group / ".submitit" / "101_submission.sh").is_file()
