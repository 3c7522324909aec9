"""The built wheel, installed where there is nothing else: conf/ and templates/ travel with it, and it plans."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False)


def succeed(*command: str | Path, cwd: Path) -> str:
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(what: tuple[str, ...], folder: Path) -> Path:
    succeed(sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(("--wheel",), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The bin directory of a fresh environment: the wheel, and the dependencies of this environment."""
    folder = tmp_path_factory.mktemp("environment")
    succeed(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin/python"
    ours = succeed(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip()
    (Path(ours) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps")
    succeed(*pip, "--ignore-installed", wheel, cwd=folder)
    return folder / "bin"


def shipped(folder: str) -> set[str]:
    files = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(ROOT)) for path in files}


def names(wheel: Path) -> set[str]:
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_carries_conf_templates_and_the_plugin(wheel):
    inside = names(wheel)
    assert shipped("conf") | shipped("templates") | shipped("tasks") <= {
        name.removeprefix("runplan/") for name in inside
    }
    assert {"runplan/py.typed", "runplan/conf/runplan.yaml", "hydra_plugins/runplan_plugins.py"} <= inside
    top = {name.split("/")[0] for name in inside}
    assert top <= {"runplan", "hydra_plugins", "runplan-0.1.0.dist-info"}
    assert not any(name.startswith("runplan/_hydra") for name in inside)


def test_a_wheel_from_the_source_distribution_is_the_same(wheel, tmp_path):
    assert names(build((), tmp_path)) == names(wheel)


def test_the_installed_package_is_the_one_that_runs(installed, tmp_path):
    code = "import runplan.paths as p; print(p.CONF_DIR, p.TEMPLATES_DIR, sep='\\n')"
    for line in succeed(installed / "python", "-c", code, cwd=tmp_path).splitlines():
        assert Path(line).is_relative_to(installed.parent)
        assert Path(line).is_dir()


def test_help_in_an_empty_folder(installed, tmp_path):
    assert "lora.rank" in succeed(installed / "runplan", "--help", cwd=tmp_path)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("program", [("runplan",), ("python", "-m", "runplan")])
def test_plans_in_an_empty_folder(installed, tmp_path, program):
    first, *rest = program
    overrides = ("model=1B,3B", "lora.rank=4,64", "dataset.create=true", "group.name=first")
    out = succeed(installed / first, *rest, "-m", *overrides, cwd=tmp_path)
    assert "1B_rank4" in out
    plan = json.loads((tmp_path / "outputs/first/plan.json").read_text())
    assert plan["totals"] | {"runs": 6, "fine_tuned": 4, "controls": 2} == plan["totals"]
    assert {run["name"] for run in plan["runs"]} == {
        *("1B_rank4", "1B_rank64", "3B_rank4", "3B_rank64", "1B_base", "3B_base"),
    }
    missing = {row["name"]: row["fix"] for row in plan["verified"] if row["status"] == "missing"}
    assert len(missing) == 2, "the two models"
    assert all(missing.values()), "what is missing comes with the command that gets it"
    assert (tmp_path / "outputs/first/3B_rank64/finetune.slurm").is_file()
