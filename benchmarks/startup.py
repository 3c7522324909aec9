"""How long `runplan --help` and a one-run plan with known logs take, beside importing Hydra alone."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measure import Row, medians, show

LOGS = Path(__file__).parents[1] / "tests/data/logs"
RIVAL = "import hydra"
ALLOWED_OVER_HYDRA = 1.5
ALLOWED_BESIDES_S = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(LOGS, folder / "logs")
        plan = ["-m", "runplan", "dataset.create=true", "priors.paths=[logs]", "group.name=one"]
        commands = {
            RIVAL: ["-c", "import hydra"],
            "python -m runplan --help": ["-m", "runplan", "--help"],
            "one run, warm priors, preview": [*plan, "preview=true"],
            "one run, warm priors, written": plan,
        }
        taken = medians(commands, folder, rounds)
    rival = taken.pop(RIVAL)
    target = ALLOWED_OVER_HYDRA * rival + ALLOWED_BESIDES_S
    rows = [Row(what, ours, rival, RIVAL, target, "s") for what, ours in taken.items()]
    show(f"Start-up, median of {rounds} (target: {ALLOWED_OVER_HYDRA} x import hydra + {ALLOWED_BESIDES_S} s)", rows)


if __name__ == "__main__":
    main()
