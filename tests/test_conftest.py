"""The switch under which a skip is a failure, tried in a pytest of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SKIPPING = """
import pytest

def test_runs(): pass

def test_skips(): pytest.skip("no moon")

@pytest.mark.xfail
def test_expected_to_fail(): assert False

@pytest.mark.slurm
def test_needs_slurm(): pass
"""


def outcome(folder: Path, **environment: str) -> str:
    shutil.copy(Path(__file__).with_name("conftest.py"), folder / "conftest.py")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = slurm: needs a SLURM\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsf", "-p", "no:cacheprovider", "--continue-on-collection-errors", "."],
        cwd=folder,
        env={**os.environ, "PATH": ""} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("switch", "said"), [("0", "1 passed, 3 skipped, 1 xfailed"), ("1", "2 failed, 1 passed, 2 errors")]
)
def test_a_skip_is_a_failure_only_under_the_switch(tmp_path, switch, said):
    (tmp_path / "test_it.py").write_text(SKIPPING)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    out = outcome(tmp_path, RUNPLAN_NO_SKIP=switch)
    assert said in out
    assert "no moon" in out
    assert "no_such_package" in out
    assert "sbatch, squeue, sinfo, scontrol not on PATH" in out


def test_home_cache_and_working_directory_are_not_the_users(tmp_path_factory):
    ours = tmp_path_factory.getbasetemp()
    assert Path.cwd().is_relative_to(ours)
    assert Path.home().is_relative_to(ours)
    assert Path(os.environ["XDG_CACHE_HOME"]).is_relative_to(ours)


def test_a_directory_that_breaks_what_is_not_quoted(weird_tmp_path):
    assert weird_tmp_path.is_dir()
    assert weird_tmp_path.name == "a'; echo x"
