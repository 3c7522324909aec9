"""How long submitting a group takes, beside a loop that calls plain `sbatch`, and beside a bare submitit array.

Needs a SLURM: `.ci/slurm.sh start`, then `export SLURM_CONF=$(.ci/slurm.sh conf)`. Jobs are held, and cancelled at the
end. A submitit array is what Hydra's submitit launcher makes of a sweep, without its two compositions a job.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from measure import Row, import_hydra_s, show

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
LOOP = 'for run in "$1"/*/; do cd "$run" && sbatch --parsable finetune.slurm >/dev/null || exit 1; done'
BARE = """
import sys, submitit
from submitit.helpers import CommandFunction
executor = submitit.AutoExecutor(folder=sys.argv[1], cluster="slurm")
executor.update_parameters(timeout_min=10, mem_gb=1, cpus_per_task=1, slurm_additional_parameters={"hold": True})
with executor.batch():
    for _ in range(int(sys.argv[2])):
        executor.submit(CommandFunction(["true"]))
"""
SUBMIT = ["-m", "runplan", "submit"]
ALLOWED_EACH = 0.1
"""Times `import hydra`: a line of the ledger that is on the disk before the next call, and starting a program."""
ALLOWED_BESIDES = 7.0
"""Times `import hydra`: start of Python, squeue; of submitit, where that is used."""


def seconds(*command: str) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    taken = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr}")
    return taken


def has_slurm() -> bool:
    known = shutil.which("sbatch") and shutil.which("squeue")
    return bool(known) and subprocess.run(["squeue", "-h"], capture_output=True, check=False).returncode == 0


def cancel_all(folder: Path) -> None:
    """Cancel whatever was submitted from below a folder."""
    listed = subprocess.run(["squeue", "-h", "-o", "%A|%Z"], capture_output=True, text=True, check=True).stdout
    jobs = {line.partition("|")[0] for line in listed.splitlines() if line.partition("|")[2].startswith(str(folder))}
    if jobs:
        subprocess.run(["scancel", *jobs], check=False)


def measure(folder: Path, runs: int) -> dict[str, float]:
    import real_groups  # noqa: PLC0415 - from tests/, which are on the path by now

    groups = {}
    for name in ("loop", "sbatch", "submitit", "script"):
        token = uuid.uuid4().hex[:8]
        groups[name] = str(real_groups.group(folder / name, token, runs, 0, base=False, extra=("--hold",)))
    (folder / "bare").mkdir()
    os.chdir(folder)
    python = sys.executable
    return {
        "sbatch in a loop": seconds("bash", "-c", LOOP, "loop", groups["loop"]),
        "a bare submitit array": seconds(python, "-c", BARE, str(folder / "bare"), str(runs)),
        "runplan submit": seconds(python, *SUBMIT, groups["sbatch"]),
        "runplan submit, nothing new": seconds(python, *SUBMIT, groups["sbatch"]),
        "bash submit_all.sh": seconds("bash", f"{groups['script']}/submit_all.sh"),
        "runplan submit --via submitit": seconds(python, *SUBMIT, groups["submitit"], "--via", "submitit"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="runs of each group that is submitted")
    runs = parser.parse_args().runs
    if not has_slurm():
        print("no SLURM answers: nothing to measure")
        return
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as name:
        try:
            hydra = import_hydra_s(Path(name))
            taken = measure(Path(name), runs)
        finally:
            cancel_all(Path(name))
    loop, bare = taken["sbatch in a loop"], taken["a bare submitit array"]
    besides = ALLOWED_BESIDES * hydra
    each = runs * ALLOWED_EACH * hydra + besides
    rows = [
        Row("runplan submit", taken["runplan submit"], loop, "sbatch in a loop", loop + each, "s"),
        Row("bash submit_all.sh", taken["bash submit_all.sh"], loop, "sbatch in a loop", loop + 2 * each, "s"),
        Row("nothing new", taken["runplan submit, nothing new"], loop, "sbatch in a loop", besides, "s"),
        Row("--via submitit", taken["runplan submit --via submitit"], bare, "bare submitit", bare + each, "s"),
    ]
    allowed = f"{ALLOWED_EACH:g} x import hydra a run and {ALLOWED_BESIDES:g} x more than what keeps no ledger"
    show(f"Submitting {runs} runs (at most {allowed})", rows)


if __name__ == "__main__":
    main()
