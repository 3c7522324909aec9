"""Keep measured runs as test data: the table and what a user would have of each run, trimmed, paths and hosts removed.

python benchmarks/gpu/collect.py measured tests/data/gpu_runs
"""

from __future__ import annotations

import argparse
import csv
import re
import shutil
import sys
from pathlib import Path

KEPT = ("train.out", "finetune.yaml", "finetune.slurm", "gpu_metrics.csv")
SAMPLES = 40
_PATH = re.compile(r"(?:/[\w.@+-]+)+/(?=(?:site-packages|dist-packages|lib/python3)\b)")


def collect(measured: Path, target: Path) -> int:
    """Write the runs of a table's finished rows below `target`; how many there were."""
    with (measured / "table.csv").open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows, columns = list(reader), list(reader.fieldnames or ())
    rows = list({row["run"]: row for row in rows if row["state"] in {"ok", "oom"}}.values())
    roots = [str(measured.resolve()), sys.prefix, str(Path(__file__).resolve().parents[2]), str(Path.home())]
    for row in rows:
        row["reason"] = clean(row["reason"], roots)
        folder = next((measured / "runs" / row["run"]).glob("*/train.out")).parent
        kept = target / "runs" / row["run"]
        shutil.rmtree(kept, ignore_errors=True)
        (kept / "logs").mkdir(parents=True)
        for path in [*(folder / name for name in KEPT), *(folder / "logs").glob("log_*.txt")]:
            if path.exists():
                text = clean(path.read_text(encoding="utf-8", errors="replace"), roots)
                text = THINNED.get(path.suffix, str)(text)
                (kept / path.relative_to(folder)).write_text(text, encoding="utf-8")
    with (target / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return len(rows)


def clean(text: str, roots: list[str]) -> str:
    """The text with the machine's own paths replaced."""
    for root in roots:
        if len(root) > 1:
            text = text.replace(root, "__RUN__")
    return _PATH.sub("__RUN__/", text)


def thin(samples: str) -> str:
    """Some of nvidia-smi's samples, those with the most memory in use among them."""
    header, *lines = samples.splitlines()
    lines = [line for line in lines if line.count(",") == header.count(",")]
    used = [float(found[0]) if (found := re.search(r"[\d.]+", line.split(",")[4])) else 0.0 for line in lines]
    most = used.index(max(used)) if used else 0
    step = max(1, len(lines) // SAMPLES)
    return "\n".join([header, *(line for i, line in enumerate(lines) if i % step == 0 or i == most)]) + "\n"


def head(script: str) -> str:
    """What a job script asks for, and the comments before that."""
    lines = script.splitlines()
    asked = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    return "\n".join(lines[: asked[-1] + 1 if asked else None]) + "\n"


THINNED = {".csv": thin, ".slurm": head}
"""What is left of long files, by their endings."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measured", type=Path, help="--out of measure.py")
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    arguments.target.mkdir(parents=True, exist_ok=True)
    print(f"{collect(arguments.measured, arguments.target)} runs in {arguments.target}")


if __name__ == "__main__":
    main()
