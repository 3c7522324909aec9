"""What every test gets: a home, cache and working directory of its own; what it needs, or the reason why it is skipped.

`RUNPLAN_NO_SKIP=1` turns every skip, expected failures included, into a failure: for machines that are known to have
everything, where a skip would hide that something did not run.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("no deadlines", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("no deadlines")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell: what tests start would not hear Ctrl-C either.
    signal.signal(signal.SIGINT, signal.default_int_handler)

NO_SKIP = os.environ.get("RUNPLAN_NO_SKIP", "") not in {"", "0"}

COMMANDS = {"slurm": ("sbatch", "squeue", "sinfo", "scontrol"), "browser": ("chromium",)}
WHAT = {"slurm": "SLURM", "browser": "a browser"}
PACKAGES = {
    "browser": ("playwright",),
    "trainer": ("torch", "torchtune", "torchao"),
    "trl": ("torch", "trl", "peft"),
    "evaluation": ("inspect_ai", "transformers", "peft"),
}


@cache
def lacking(marker: str) -> str:
    """Why tests with this marker cannot run here; empty when they can."""
    commands = [name for name in COMMANDS.get(marker, ()) if shutil.which(name) is None]
    packages = [name for name in PACKAGES.get(marker, ()) if importlib.util.find_spec(name) is None]
    if commands:
        return f"needs {WHAT[marker]}: {', '.join(commands)} not on PATH"
    if packages:
        return f"needs the extra '{marker}' (make test EXTRAS={marker}): no {', '.join(packages)} in this environment"
    return slurm_silence() if marker == "slurm" else ""


def slurm_silence() -> str:
    """Why SLURM's commands are there but do not answer; empty when they do."""
    try:
        done = subprocess.run(["squeue", "-h"], capture_output=True, text=True, timeout=10, check=False)
    except subprocess.TimeoutExpired:
        return "needs SLURM: squeue did not answer within 10 s"
    said = done.stderr.partition("\n")[0]
    return f"needs SLURM: {said or 'squeue failed'}" if done.returncode else ""


def pytest_runtest_setup(item: pytest.Item) -> None:
    reasons = [lacking(marker) for marker in {**COMMANDS, **PACKAGES} if item.get_closest_marker(marker)]
    if any(reasons):
        pytest.skip("; ".join(filter(None, reasons)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """With several workers (`-n`): one has all tests that share one SLURM, whose order matters; files stay whole."""
    from xdist.scheduler import LoadFileScheduling

    class OneSlurm(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "real" if nodeid.startswith(("tests/e2e/", "tests/slurm/")) else super()._split_scope(nodeid)

    return OneSlurm(config, log)


def forbid_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Under RUNPLAN_NO_SKIP, make a failure of a skipped or expectedly failing test."""
    if not (NO_SKIP and report.skipped):
        return
    place = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(report, "wasxfail", report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"RUNPLAN_NO_SKIP is set and this did not run: {place}"
    if hasattr(report, "wasxfail"):
        del report.wasxfail


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    forbid_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    forbid_skip(report)
    return report


@pytest.fixture(autouse=True)
def _own_place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test sees or touches the user's cache, configuration, jobs or working directory.

    Nor the SLURM that is there for tests: only those that need it, which take its nodes down and stop it.
    """
    place = tmp_path_factory.mktemp("place")
    for name in ("home", "cache", "config", "work"):
        (place / name).mkdir()
    for name in [*os.environ]:
        if name == "RUNPLAN_CONF" or (name.startswith(("SLURM_", "SBATCH_")) and name != "SLURM_CONF"):
            monkeypatch.delenv(name)
    if request.node.get_closest_marker("slurm") is None:
        monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(place / "config"))
    monkeypatch.chdir(place / "work")


@pytest.fixture
def weird_tmp_path(tmp_path: Path) -> Path:
    """An empty directory with a name that breaks whatever is not quoted."""
    made = tmp_path / "a'; echo x"
    made.mkdir()
    return made
