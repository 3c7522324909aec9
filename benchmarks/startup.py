"""How long the short commands take, beside importing Hydra alone: CPU time, which is what one waits on a quiet machine.

Multiples of `import hydra`, which takes 0.14 s on a 3 GHz core: 3.5 are the half second after which one looks up.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measure import ENVIRONMENT, IMPORT_HYDRA, Row, medians, seconds, show

LOGS = Path(__file__).parents[1] / "tests/data/logs"
PLAN = ["-m", "runplan", "dataset.create=true", "priors.paths=[logs]", "group.name=one"]
TYPED = "runplan model=1B lora."
COMMANDS = {
    # what: (command, at most as many times as long as the rival)
    "runplan --help": (["-m", "runplan", "--help"], 0.5),
    "completion of a word": (["-m", "runplan", "-sc", "query=bash"], 1.0),
    "priors, warm": (["-m", "runplan", "priors", "logs"], 1.0),
    "status of one run": (["-m", "runplan", "status", "outputs/one"], 2.0),
    "one run, warm priors, preview": ([*PLAN, "preview=true"], 3.5),
    "one run, warm priors, written": (PLAN, 3.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="how often everything is run; the median counts")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(LOGS, folder / "logs")
        ENVIRONMENT["XDG_CACHE_HOME"] = str(folder / "cache")
        ENVIRONMENT["COMP_LINE"], ENVIRONMENT["COMP_POINT"] = TYPED, str(len(TYPED))
        seconds(PLAN, folder)  # a group to look at
        commands = {IMPORT_HYDRA: ["-c", IMPORT_HYDRA], **{what: command for what, (command, _) in COMMANDS.items()}}
        taken = medians(commands, folder, rounds)
    rival = taken[IMPORT_HYDRA].cpu
    rows = [Row(what, taken[what].cpu, rival, IMPORT_HYDRA, most * rival, "s") for what, (_, most) in COMMANDS.items()]
    show(f"Start-up, CPU time, median of {rounds}", rows)


if __name__ == "__main__":
    main()
