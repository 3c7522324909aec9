"""What one run costs when 1,000 are planned, sized and written, beside one no-op job of a bare Hydra multirun.

Both sides are timed as whole commands that take turns, the best of each counts; the cost of a run is what there is
beyond a single run, so that start-up, which both have, counts on neither side.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from measure import ENVIRONMENT, Row, Taken, show, take

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


def make_hydra_app(folder: Path) -> None:
    for path, text in HYDRA_CONF.items():
        (folder / "conf" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / path).write_text(text, encoding="utf-8")
    (folder / "app.py").write_text(HYDRA_APP, encoding="utf-8")


def sweep(name: str, runs: int) -> list[str]:
    """A command that plans so many runs, ranks by seeds."""
    ranks = ",".join(str(4 * (n + 1)) for n in range(RANKS))
    swept = [f"lora.rank={ranks}", f"seed=range(0,{runs // RANKS})"] if runs > 1 else []
    return ["-m", "runplan", "-m", "dataset.create=true", "priors.paths=[logs]", f"group.name={name}", *swept]


def one_round(hydra: Path, own: Path, runs: int, jobs: int) -> dict[str, Taken]:
    """Every command once; groups are new, and go again."""
    taken = {f"hydra {n}": take(["app.py", "-m", f"seed=range(0,{n})"], hydra) for n in (1, jobs + 1)}
    for what, number in {"alone": 1, "many": runs}.items():
        taken[what] = take(sweep(what, number), own)
        written = sum(1 for _ in (own / "outputs" / what).glob("*/finetune.yaml"))
        if written != number:
            raise SystemExit(f"{written} of {number} runs were written")
        shutil.rmtree(own / "outputs" / what)
    return taken


def measure(folder: Path, runs: int, jobs: int, rounds: int) -> list[Row]:
    hydra, own = folder / "hydra", folder / "runplan"
    hydra.mkdir()
    make_hydra_app(hydra)
    shutil.copytree(LOGS, own / "logs")
    take(sweep("warm", 1), own)
    taken = [one_round(hydra, own, runs, jobs) for _ in range(rounds)]
    rows = []
    for name in ("cpu", "wall"):
        best = {what: min(getattr(one[what], name) for one in taken) for what in taken[0]}
        ours = (best["many"] - best["alone"]) / (runs - 1) * 1000
        rival = (best[f"hydra {jobs + 1}"] - best["hydra 1"]) / jobs * 1000
        rows.append(Row(f"{name} time of a run", ours, rival, "no-op job of hydra -m", rival * TARGET, "ms"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="runs that are planned at once: a multiple of 10")
    parser.add_argument("--jobs", type=int, default=30, help="jobs of the bare Hydra multirun")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is run; the best counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        ENVIRONMENT["XDG_CACHE_HOME"] = f"{name}/cache"
        rows = measure(Path(name), options.runs, options.jobs, options.rounds)
    show(f"Plan, size and write {options.runs} runs, beside {options.jobs} jobs, best of {options.rounds}", rows)


if __name__ == "__main__":
    main()
