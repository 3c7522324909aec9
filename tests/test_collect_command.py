"""The verb on a recorded group, whole and damaged; what it writes is in tests/golden_collected.

RUNPLAN_REGEN=1 accepts what is written now; look at `git diff tests/golden_collected` before committing it.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from status_groups import account_line, fake_slurm

from runplan import cli
from runplan.files import staging
from runplan.files.render import environment
from runplan.paths import TEMPLATES_DIR
from runplan.report.page import report
from runplan.summary.readme import RESULTS_END, RESULTS_START, carry_results

HERE = Path(__file__).parent
RECORDED = HERE / "data" / "collected_group"
GOLDEN = HERE / "golden_collected"
REGEN = os.environ.get("RUNPLAN_REGEN", "") not in {"", "0"}
PICTURES = ("effects.svg", "learning_curves.svg", "estimated_vs_actual.svg")
ACCEPT = "RUNPLAN_REGEN=1 python -m pytest tests/test_collect_command.py && git diff tests/golden_collected"
CELL = "tiny_rank4_seed1/eval/vowels_epoch1"


@pytest.fixture
def group(tmp_path):
    """A copy of the recorded group in a place with a hostile name."""
    made = tmp_path / "a'; $(x) <b> & é" / "vowels"
    shutil.copytree(RECORDED, made)
    (made / "ledger.jsonl").touch()
    return made


def collect(capsys, group, *more):
    code = cli.main(["collect", str(group), *more])
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    return code, said.out, said.err


def as_json(capsys, group):
    code, out, _ = collect(capsys, group, "--json")
    return code, json.loads(out)


def tree(group):
    return {str(path.relative_to(group)): path.read_bytes() for path in sorted(group.rglob("*")) if path.is_file()}


def log_of(group, cell=CELL):
    (path,) = (group / cell / "logs").glob("*.json")
    return path


def part_of(group, name):
    text = (group / name).read_text()
    return text[text.index(RESULTS_START) : text.index(RESULTS_END)]


def test_files_are_as_they_were_accepted(capsys, group):
    assert collect(capsys, group)[0] == 0
    found = {name: part_of(group, name) for name in ("README.md", "report.html")}
    found |= {"results.csv": (group / "results.csv").read_text()}
    found |= {f"results/{name}": (group / "results" / name).read_text() for name in PICTURES}
    if REGEN:
        (GOLDEN / "results").mkdir(parents=True, exist_ok=True)
        for name, text in found.items():
            (GOLDEN / name).write_text(text)
    for name, text in found.items():
        assert text == (GOLDEN / name).read_text(), f"{name} differs; to accept it: {ACCEPT}"


def test_collecting_again_changes_nothing(capsys, group):
    before = tree(group)
    collect(capsys, group)
    after = tree(group)
    added = {"results.csv", "report.html", *(f"results/{name}" for name in PICTURES)}
    assert after.keys() - before.keys() == added
    assert {path for path in before if before[path] != after[path]} == {"README.md"}
    code, out, _ = collect(capsys, group)
    assert (code, tree(group)) == (0, after)
    assert "Nothing changed in" in out


def test_templates_of_the_users_own_are_used(capsys, group, monkeypatch, tmp_path):
    own = tmp_path / "here" / "conf" / "templates" / "group" / "results.html.j2"
    own.parent.mkdir(parents=True)
    own.write_text("<p>our own page</p>")
    monkeypatch.chdir(tmp_path / "here")
    assert collect(capsys, group)[0] == 0
    assert "<p>our own page</p>" in (group / "report.html").read_text()
    own.write_text("{{ nope }}")
    code, _, said = collect(capsys, group)
    assert (code, "'nope' is undefined" in said) == (1, True)


def test_pictures_are_whole_xml_and_name_every_run(capsys, group):
    collect(capsys, group)
    for name in PICTURES:
        root = ET.parse(group / "results" / name).getroot()
        texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(texts) > 5
        numbers = [
            value for element in root.iter() for key, value in element.attrib.items() if key in {"x", "x1", "cx"}
        ]
        assert all(-1 <= float(value) <= 760 for value in numbers)
    assert (group / "README.md").read_text().count("](results/") == len(PICTURES)


def test_json_says_everything(capsys, group):
    code, said = as_json(capsys, group)
    assert (code, said["schema"], said["missing"], said["warnings"]) == (0, 1, [], [])
    assert len(said["results"]) == 9 * 2
    one = said["results"][0]
    assert (one["run"], one["factors"], one["epoch"]) == ("tiny_rank4_seed1", {"lora.rank": 4, "seed": 1}, 0)
    assert one["ci_low"] < one["effect"] < one["ci_high"]
    assert (group / one["log"]).is_file()
    (match, _) = (level for level in said["effects"]["by_factor"] if level["level"] == 32)
    assert (match["pairs"], match["against_first_level"]["mean"]) == (2, -0.05)
    jobs = said["estimated_vs_actual"]["jobs"]
    assert [job["kind"] for job in jobs].count("train") == 4
    assert said["estimated_vs_actual"]["totals"]["training"] == {
        "compared": 4, "inside_p95": 4, "median_ratio": pytest.approx(0.87, abs=0.01),
    }  # fmt: skip
    assert jobs[0]["peak_memory_gib"]["actual"] is None, "on a CPU there is none"
    assert jobs[0]["s_per_step"]["actual"] == pytest.approx(0.091, abs=0.001)
    assert [len(curve["validation"]) for curve in said["learning_curves"]] == [4, 4, 4, 4]


def test_it_is_plain_when_piped(group):
    done = run_program("collect", str(group))
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line != line.rstrip()]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "GROUP"),
        (["nowhere"], 2, "there is no folder nowhere"),
        ([__file__], 2, "is a file, and a group is a folder"),
        (["."], 2, "holds no plan.json"),
        ([".", "--yaml"], 2, "--yaml"),
    ],
)
def test_wrong_usage(capsys, words, code, said):
    assert cli.main(["collect", *words]) == code
    assert said in capsys.readouterr().err


def cut(path):
    path.write_bytes(path.read_bytes()[:3000])


def with_error(path):
    document = json.loads(path.read_text())
    document["status"], document["error"] = "error", {"message": "RuntimeError: the task raised"}
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "is cut short"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00{"), "is no JSON"),
        (lambda path: path.write_text("[" * 100_000), "is no Inspect log"),
        (lambda path: path.write_text("{}"), "is no Inspect log"),
        (with_error, "ended with status error: RuntimeError: the task raised"),
        (lambda path: path.unlink(), "left no log"),
    ],
    ids=["cut", "empty", "binary", "deep", "other", "error", "gone"],
)
def test_a_damaged_log_is_named_and_the_rest_collected(capsys, group, damage, reason):
    damage(log_of(group))
    code, said = as_json(capsys, group)
    assert (code, len(said["results"])) == (1, 8 * 2)
    (one,) = said["missing"]
    assert (one["run"], one["cell"], one["state"]) == ("tiny_rank4_seed1", "eval/vowels_epoch1", "unreadable")
    assert reason in one["reason"]
    assert one["fix"].endswith(" cell.slurm")
    first = next(level for level in said["effects"]["by_factor"] if level["level"] == 4)
    assert (first["runs"], first["planned_runs"]) == (["tiny_rank4_seed2"], 2)
    readme = (group / "README.md").read_text()
    assert "Evaluations collected**: 8 of 9" in readme
    assert "| LoRA Rank 4 | 1 of 2 | 0.617 |" in readme
    assert "Some levels lack runs" in readme


def test_a_cell_without_its_adapter_is_named(capsys, group):
    cell = group / CELL
    log_of(group).unlink()
    text = (cell / "jobs.jsonl").read_text().replace('"exit_code": 0', '"exit_code": 1')
    (cell / "jobs.jsonl").write_text(text)
    (cell / "slurm-local-1.out").write_text("loading\ncell.slurm: cannot prepare the model at /x/artifacts/epoch_1\n")
    code, said = as_json(capsys, group)
    (one,) = said["missing"]
    assert (code, one["state"]) == (1, "failed")
    assert one["reason"] == "exit code 1: cell.slurm: cannot prepare the model at /x/artifacts/epoch_1"


def test_a_training_that_failed_is_named_with_its_cells(capsys, group):
    run = group / "tiny_rank4_seed1"
    shutil.rmtree(run / "eval")
    (run / "jobs.jsonl").write_text((run / "jobs.jsonl").read_text().replace('"exit_code": 0', '"exit_code": 1'))
    log = next(run.glob("slurm-*.out"))
    log.write_text(log.read_text() + "\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n")
    code, said = as_json(capsys, group)
    assert code == 1
    assert [one["kind"] for one in said["missing"]] == ["train", "cell", "cell"]
    assert "CUDA out of memory" in said["missing"][0]["reason"]
    assert said["missing"][1]["reason"].startswith("its training: ")
    assert said["estimated_vs_actual"]["jobs"][0]["time_s"]["actual"] is None


def test_more_cells_finish_and_collecting_again_adds_them(capsys, group):
    log, kept = log_of(group), log_of(group).read_bytes()
    log.unlink()
    assert collect(capsys, group)[0] == 1
    log.write_bytes(kept)
    code, out, _ = collect(capsys, group)
    assert code == 0
    assert "report.html, README.md" in out.rpartition("Written to")[2]
    assert f"To look at: {group}/report.html" in out
    assert (group / "results.csv").read_text() == (GOLDEN / "results.csv").read_text()


def test_two_logs_in_a_cell(capsys, group):
    log = log_of(group)
    document = json.loads(log.read_text())
    document["eval"]["created"] = "2026-11-23T00:00:00+00:00"
    document["results"]["scores"][0]["metrics"]["accuracy"]["value"] = 0.25
    (log.parent / "newer.json").write_text(json.dumps(document))
    (log.parent / "newest.json").write_text('{"version": 2, "sta')
    code, said = as_json(capsys, group)
    row = next(row for row in said["results"] if row["run"] == "tiny_rank4_seed1" and row["epoch"] == 1)
    assert (code, row["value"], row["log"]) == (0, 0.25, f"{CELL}/logs/newer.json")
    (warning,) = said["warnings"]
    assert warning.startswith(f"{CELL}/logs/newest.json is cut short (Unterminated string")
    assert warning.endswith("; newer.json counts")


def test_without_any_result_there_is_a_section_all_the_same(capsys, group):
    for path in (*group.glob("*/eval/*/logs/*.json"), *group.glob("*/jobs.jsonl"), *group.glob("*/eval/*/jobs.jsonl")):
        path.unlink()
    for path in (*group.glob("*/logs/*"), *group.glob("*/*.out")):
        path.unlink()
    code, said = as_json(capsys, group)
    assert (code, said["results"], len(said["missing"])) == (1, [], 4 + 9)
    assert "Evaluations collected**: 0 of 9" in (group / "README.md").read_text()
    assert sorted(path.name for path in (group / "results").iterdir()) == ["estimated_vs_actual.svg"]


def test_evaluations_in_inspects_own_format_need_inspect(capsys, group, monkeypatch):
    log = log_of(group)
    log.rename(log.with_suffix(".eval"))
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "inspect_ai" else real(name))
    code, said = as_json(capsys, group)
    assert code == 1
    assert "inspect log convert --to json --output-dir . " in said["missing"][0]["reason"]


def test_what_a_user_wrote_in_the_readme_stays(capsys, group):
    readme = group / "README.md"
    readme.write_text(readme.read_text().replace("## Run Design", "My notes: <b>é</b>\n\n## Run Design") + "\nMore.\n")
    collect(capsys, group)
    text = readme.read_text()
    assert "My notes: <b>é</b>" in text
    assert text.endswith("\nMore.\n")
    collect(capsys, group)
    assert readme.read_text() == text


def test_a_readme_without_markers_or_without_itself_gets_its_results(capsys, group):
    readme = group / "README.md"
    readme.write_text("# Mine\n")
    collect(capsys, group)
    text = readme.read_text()
    assert text.startswith("# Mine\n")
    assert "### By factor" in text
    collect(capsys, group)
    assert readme.read_text() == text
    readme.unlink()
    collect(capsys, group)
    assert readme.read_text().startswith("# Run Plan Summary")
    assert "### By factor" in readme.read_text()


def test_planning_again_keeps_results(capsys, group):
    page = report(json.loads((group / "plan.json").read_text()), str(group), environment(TEMPLATES_DIR))
    plain = {"README.md": (group / "README.md").read_text(), "report.html": page}
    collect(capsys, group)
    for name, text in plain.items():
        collected = (group / name).read_text()
        assert "By factor" in collected
        assert carry_results(collected, text) == collected


def test_the_page_names_what_is_missing_and_marks_what_is_done(capsys, group):
    run = group / "tiny_rank4_seed1"
    log_of(group).unlink()
    (run / "jobs.jsonl").write_text((run / "jobs.jsonl").read_text().replace('"exit_code": 0', '"exit_code": 1'))
    assert collect(capsys, group)[0] == 1
    text = (group / "report.html").read_text()
    part = part_of(group, "report.html")
    assert "tiny_rank4_seed1/eval/vowels_epoch1" in part
    marked = re.findall(r"^\.(r[0-9a-f]{10})\{(.*)\}$", part, re.MULTILINE)
    assert [properties.partition(";")[2] for _, properties in marked][1:] == [
        '--took-said:"; took 28s"', '--took-said:"; took 27s"', '--took-said:"; took 44s"',
    ]  # fmt: skip
    assert marked[0][1] == '--took-said:"; failed"'
    for key, _ in marked:
        assert text.count(f'class="{key}"') == 1, "the bar of its time"
        assert text.count(f'class="row {key}"') == 1, "and that of its memory"


def test_a_page_without_markers_gets_its_results_and_keeps_its_words(capsys, group):
    (group / "report.html").write_text("<!DOCTYPE html><title>Mine</title><p>My notes\n")
    collect(capsys, group)
    text = (group / "report.html").read_text()
    assert text.startswith("<!DOCTYPE html><title>Mine</title><p>My notes\n")
    assert "By factor" in text
    collect(capsys, group)
    assert (group / "report.html").read_text() == text


def test_a_group_that_may_not_be_written_is_said(capsys, group, monkeypatch):
    def refuse(path, *_args, **_kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(staging.os, "mkdir", refuse)
    code, _, err = collect(capsys, group)
    assert code == 1
    assert "Permission denied; see that the folder can be written and collect again" in err


def run_program(*words):
    paths = os.pathsep.join([str(HERE.parent), str(HERE.parent / "runplan" / "_hydra")])
    words = [sys.executable, "-m", "runplan", *words]
    return subprocess.run(words, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)


def test_collected_runs_are_priors_of_the_next_plan_and_planning_again_keeps_the_results():
    shutil.copytree(RECORDED, "outputs/vowels")
    for log in Path("outputs/vowels").glob("*/slurm-*.out"):  # as if the data they name were here
        log.write_text(log.read_text().replace("/data/lab", str(Path.cwd())))
    rows = [{"input": f"word{i}", "output": "vowel" if i % 2 else "consonant"} for i in range(5240)]
    Path("data").mkdir()
    Path("data/vowels.json").write_text(json.dumps({"train": rows[:5120], "validation": rows[5120:], "test": rows[:9]}))
    words = ["model=tiny", "dataset=json", "dataset.path=data/vowels.json", "trainer.device=cpu", "resources=cpu",
             "dtype=fp32", "batch_size=64", "packed=false", "lora.rank=4", "group.name=next"]  # fmt: skip
    assert run_program("collect", "outputs/vowels").returncode == 0
    done = run_program(*words)
    assert done.returncode == 0, done.stderr
    (run, _) = json.loads(Path("outputs/next/plan.json").read_text())["runs"]
    assert run["estimate"]["source"] == "priors"
    assert run["estimate"]["n_priors"] == 4, "every run that trained counts"
    assert (run["resources"]["gpus"], *(cell["resources"]["gpus"] for cell in run["cells"])) == (0, 0)
    assert run["gpu_hours"] == {"p50": 0, "p95": 0}
    assert "**Effective batch size**: 64" in Path("outputs/next/README.md").read_text()
    assert any("outputs/vowels/tiny_rank" in line for line in run["estimate"]["evidence"])
    assert run_program("collect", "outputs/next").returncode == 1, "nothing of it ran"
    collected = [Path("outputs/next", name).read_text() for name in ("README.md", "report.html")]
    assert "Evaluations collected**: 0 of 2" in collected[0]
    assert "<dt>Evaluations collected</dt><dd>0 of 2</dd>" in collected[1]
    assert run_program(*words).returncode == 0
    assert [Path("outputs/next", name).read_text() for name in ("README.md", "report.html")] == collected


def test_hostile_names_reach_readme_table_and_pictures_unharmed(capsys, group):
    plan = json.loads((group / "plan.json").read_text())
    hostile = f'<b>|`$(x)`\n{RESULTS_END}\x1b[31m"'
    for run in plan["runs"]:
        if run["factors"]:
            run["factors"] = {"system_prompt": hostile, **run["factors"]}
    plan["design"]["factors"] = {"system_prompt": [hostile, ""], **plan["design"]["factors"]}
    (group / "plan.json").write_text(json.dumps(plan))
    assert collect(capsys, group)[0] == 0
    readme = (group / "README.md").read_text()
    assert "\x1b" not in readme
    assert "<b>" not in readme
    assert readme.count(RESULTS_END) == 1
    page = (group / "report.html").read_text()
    assert (page.count(RESULTS_START), page.count(RESULTS_END), page.count("<b>")) == (1, 1, 6), "six figures of ours"
    assert "\x1b" not in page
    for name in PICTURES:
        ET.parse(group / "results" / name)


def test_a_full_disk_changes_nothing(capsys, group, monkeypatch):
    before = tree(group)
    real, calls = os.write, []

    def full(handle, data):
        calls.append(handle)
        if len(calls) == 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(staging.os, "write", full)
    code, _, err = collect(capsys, group)
    assert code == 1
    assert "the disk is full; free some space and collect again" in err
    assert tree(group) == before


def test_killed_at_any_point_every_file_is_old_or_new_and_the_next_call_completes(tmp_path):
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    words = [sys.executable, str(HERE / "killed_collector.py"), str(tmp_path)]
    done = subprocess.run(words, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["wrong"] == []
    assert report["points"] >= 20


def test_slurm_is_asked_about_its_jobs(capsys, group, tmp_path, monkeypatch):
    told = account_line("123", "TIMEOUT", elapsed=300, rss="2.5G")
    calls = fake_slurm(tmp_path / "bin", monkeypatch, "", told) / "calls"
    assert collect(capsys, group)[0] == 0
    assert not calls.exists(), "all of them ran here"
    log_of(group).unlink()
    jobs = group / CELL / "jobs.jsonl"
    started, _ = jobs.read_text().splitlines()
    record = json.loads(started) | {"job_id": "123"}
    jobs.write_text(json.dumps(record) + "\n")
    code, said = as_json(capsys, group)
    assert (code, sorted(line.split()[0] for line in calls.read_text().splitlines())) == (1, ["sacct", "squeue"])
    assert said["missing"][0]["state"] == "timeout"
    job = next(
        job for job in said["estimated_vs_actual"]["jobs"] if job["cell"] and f"{job['run']}/{job['cell']}" == CELL
    )
    assert (job["time_s"]["actual"], job["host_memory_gib"]["used"]) == (None, 2.5)
    assert job["gpu_hours"]["used"] == pytest.approx(300 / 3600, abs=1e-5)
