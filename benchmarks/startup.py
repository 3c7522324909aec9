"""How long `runplan --help` and a one-run plan with known logs take, beside importing Hydra alone."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measure import Row, median_seconds, show

LOGS = Path(__file__).parents[1] / "tests/data/logs"
ALLOWED_OVER_HYDRA = 1.5
ALLOWED_BESIDES_S = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=7)
    times = parser.parse_args().times
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(LOGS, folder / "logs")
        hydra = median_seconds(["-c", "import hydra"], folder, times)
        target = ALLOWED_OVER_HYDRA * hydra + ALLOWED_BESIDES_S
        plan = ["-m", "runplan", "dataset.create=true", "priors.paths=[logs]", "group.name=one"]
        commands = {
            "python -m runplan --help": ["-m", "runplan", "--help"],
            "one run, warm priors, preview": [*plan, "preview=true"],
            "one run, warm priors, written": [*plan, "overwrite=true"],
        }
        rows = [
            Row(what, median_seconds(command, folder, times), hydra, "import hydra", target, "s")
            for what, command in commands.items()
        ]
    show(f"Start-up, median of {times} (target: {ALLOWED_OVER_HYDRA} x import hydra + {ALLOWED_BESIDES_S} s)", rows)


if __name__ == "__main__":
    main()
