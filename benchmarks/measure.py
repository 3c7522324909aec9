"""What commands take, and the table that shows it beside their rival's and the target.

No target is a number of seconds: each is a multiple of what another command takes in the same run of the benchmark.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

# Compiled modules are kept, as on any user's machine; one thread, so that numbers compare.
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | {
    "OMP_NUM_THREADS": "1"
}
IMPORT_HYDRA = "import hydra"
"""What every Hydra program waits for first: the measure of start-up time (0.14 s on a 3 GHz core)."""


@dataclass(frozen=True)
class Row:
    """One measured figure: it holds when `ours` is at most `target`."""

    what: str
    ours: float
    rival: float
    rival_name: str
    target: float
    unit: str

    @property
    def holds(self) -> bool:
        """Whether the target is met."""
        return self.ours <= self.target


@dataclass(frozen=True)
class Taken:
    """What one command took, in seconds."""

    wall: float
    cpu: float
    """User and system time of all its processes: what others do on the machine counts less."""


def take(arguments: list[str], folder: Path, program: str = sys.executable) -> Taken:
    """Run one command, Python's by default; whatever it says is shown when it fails."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} exited {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return Taken(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def seconds(arguments: list[str], folder: Path) -> float:
    """Wall time of one Python command."""
    return take(arguments, folder).wall


def import_hydra_s(folder: Path, rounds: int = 5) -> float:
    """Wall time of `import hydra` here and now."""
    return min(seconds(["-c", IMPORT_HYDRA], folder) for _ in range(rounds))


def medians(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, Taken]:
    """Median wall and CPU time of each command; they take turns, so that a busy moment of the machine hits all.

    The first round is not counted: it fills caches.
    """
    taken = [{what: take(command, folder) for what, command in commands.items()} for _ in range(rounds + 1)]
    return {
        what: Taken(*(statistics.median(getattr(one[what], name) for one in taken[1:]) for name in ("wall", "cpu")))
        for what in commands
    }


def show(title: str, rows: list[Row]) -> None:
    """Print the table; exit 1 when a target is missed."""
    print(f"\n{title}")
    print(f"{'':34}{'runplan':>12}{'rival':>12}{'ratio':>8}{'at most':>9}  rival is")
    for row in rows:
        figures = [f"{value:.3g} {row.unit}" for value in (row.ours, row.rival)]
        ratios = [f"{value / row.rival:.3g}" for value in (row.ours, row.target)]
        verdict = "holds" if row.holds else "MISSED"
        print(f"{row.what:34}{figures[0]:>12}{figures[1]:>12}{ratios[0]:>8}{ratios[1]:>9}  {row.rival_name}: {verdict}")
    if not all(row.holds for row in rows):
        sys.exit(1)
