"""Seconds of commands, and the table that shows them beside their rival's and the target."""

from __future__ import annotations

import os
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


def seconds(arguments: list[str], folder: Path) -> float:
    """Wall time of one Python command; whatever it says is shown when it fails."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    taken = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} exited {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return taken


def medians(commands: dict[str, list[str]], folder: Path, rounds: int) -> dict[str, float]:
    """Median wall time of each command; they take turns, so that a busy moment of the machine hits all.

    The first round is not counted: it fills caches.
    """
    taken = [{what: seconds(command, folder) for what, command in commands.items()} for _ in range(rounds + 1)]
    return {what: statistics.median(one[what] for one in taken[1:]) for what in commands}


def show(title: str, rows: list[Row]) -> None:
    """Print the table; exit 1 when a target is missed."""
    print(f"\n{title}")
    print(f"{'':34}{'runplan':>12}{'rival':>12}{'ratio':>8}{'target':>12}  rival is")
    for row in rows:
        figures = [f"{value:.3g} {row.unit}" for value in (row.ours, row.rival, row.target)]
        ratio = f"{row.ours / row.rival:.3g}"
        verdict = "holds" if row.holds else "MISSED"
        print(f"{row.what:34}{figures[0]:>12}{figures[1]:>12}{ratio:>8}{figures[2]:>12}  {row.rival_name}: {verdict}")
    if not all(row.holds for row in rows):
        sys.exit(1)
