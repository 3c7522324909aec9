"""What one run costs when 1,000 are planned, sized and written, beside one no-op job of a bare Hydra multirun.

Both sides are timed as whole commands; the cost of a run is the time beyond that of a single run, so that start-up,
which both have, counts on neither side.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measure import Row, seconds, show

LOGS = Path(__file__).parents[1] / "tests/data/logs"
TARGET = 1 / 30
RANKS = 10
HYDRA_APP = """
import hydra

@hydra.main(version_base="1.3", config_path="conf", config_name="config")
def main(config):
    pass

main()
"""
# As many groups and keys as a small training project has.
HYDRA_CONF = {
    "config.yaml": "defaults: [model: a, data: a, optimizer: a, trainer: a, _self_]\nseed: 1\n",
    **{f"{group}/a.yaml": "name: a\nsize: 1\nrate: 0.1\n" for group in ("model", "data", "optimizer", "trainer")},
}


def hydra_s_per_job(folder: Path, jobs: int) -> float:
    for path, text in HYDRA_CONF.items():
        (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / path).write_text(text, encoding="utf-8")
    (folder / "app.py").write_text(HYDRA_APP, encoding="utf-8")
    alone, many = (seconds(["app.py", "-m", f"seed=range(0,{n})"], folder) for n in (1, jobs + 1))
    return (many - alone) / jobs


def runplan_s_per_run(folder: Path, runs: int) -> float:
    shutil.copytree(LOGS, folder / "logs")
    seeds = runs // RANKS
    fixed = ["-m", "runplan", "-m", "dataset.create=true", "priors.paths=[logs]"]
    ranks = ",".join(str(4 * (n + 1)) for n in range(RANKS))
    seconds([*fixed, "group.name=warm"], folder)
    alone = seconds([*fixed, "group.name=alone"], folder)
    many = seconds([*fixed, "group.name=many", f"lora.rank={ranks}", f"seed=range(0,{seeds})"], folder)
    written = sum(1 for _ in (folder / "outputs/many").glob("*/finetune.yaml"))
    if written != seeds * RANKS:
        raise SystemExit(f"{written} of {seeds * RANKS} runs were written")
    return (many - alone) / (written - 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / side for side in ("hydra", "runplan")]
        for folder in folders:
            folder.mkdir()
        rival = hydra_s_per_job(folders[0], arguments.jobs) * 1000
        ours = runplan_s_per_run(folders[1], arguments.runs) * 1000
    row = Row("plan, size, write: per run", ours, rival, "bare hydra -m, no-op job", rival * TARGET, "ms")
    show(f"{arguments.runs} runs against {arguments.jobs} jobs (target: 1/30 of the rival)", [row])


if __name__ == "__main__":
    main()
