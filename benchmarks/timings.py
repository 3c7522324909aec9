"""What runplan says before any log of the seconds beside the steps, and of answers, against what others published.

    python benchmarks/timings.py          # a line for each kind
    python benchmarks/timings.py --each   # and the rows

The rows are those of tests/data/published_timings.csv: reading a model, the first step less a later one, saving a
checkpoint, generating answers, starting Inspect. `bias` is the geometric mean of what is said over what was measured,
`off` the median factor between both, `covers` the part of rows that stayed below p95. Constants of reading, of saving
and of the first step were chosen with these rows in sight.
"""

from __future__ import annotations

import argparse
import csv
import math
import re
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from cases import GPUS, LLAMA2_7B, SHAPES
from milabench import LLAMA_70B

from runplan.estimate import intervals
from runplan.estimate.evaluation.cell_time import SPEED_SIGMA, usual_startup
from runplan.estimate.evaluation.generation import Asked, Parts, generation_s
from runplan.estimate.factors import learn
from runplan.estimate.speed.gpu_constants import prior
from runplan.estimate.wall_time import overheads
from runplan.estimate.wall_time.two_parts import NOTHING
from runplan.estimate.workload import Adapter, Interval

TABLE = Path(__file__).parents[1] / "tests/data/published_timings.csv"
Row = Mapping[str, str]
MODELS = {
    "Llama-3.2-1B-Instruct": SHAPES["1B"],
    "Llama-3.2-3B": SHAPES["3B"],
    "Llama-3.2-3B-Instruct": SHAPES["3B"],
    "Llama-2-7B": LLAMA2_7B,
    "Llama-3.1-70B": LLAMA_70B,
}
_TARGETS = ("q_proj", "v_proj", "output_proj")
"""Beside the MLP, of all published saves with adapters; the sizes of their adapters say so."""
THREADS = 4
"""Where it is not said: what a job has that runplan plans."""
CARDS = {"L40S": GPUS["l40s-48"], "A10": GPUS["a10-24"]}
NEW_TOKENS, PROMPT_TOKENS = 300, 100
"""Of GSM8K's questions as PEFT's script asks them: the longest answer allowed, and about the mean prompt."""


class Told(NamedTuple):
    """One published time and what is said of it, seconds."""

    row: Row
    said: Interval

    @property
    def seconds(self) -> float:
        """What was measured."""
        return float(self.row["seconds"])

    @property
    def factor(self) -> float:
        """What is said over what was measured."""
        return self.said.p50 / self.seconds


def told(table: Path = TABLE) -> list[Told]:
    """Every published time that counts, with what is said of it."""
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Told(row, SAID[row["what"]](row)) for row in rows if row["counts"] == "yes"]


def _load(row: Row) -> Interval:
    return NOTHING.of(0.0, float(row["gb"]) / overheads.READ_GB_PER_S)


def _save(row: Row) -> Interval:
    scaled = float(row["gb"]) / overheads.WRITE_GB_PER_S
    if merged := re.fullmatch(r"merged, rank (\d+)(?:, threads (\d+))?", row["setting"]):
        adapter, threads = Adapter(int(merged[1]), _TARGETS, apply_to_mlp=True), int(merged[2] or THREADS)
        scaled += overheads.merge_s(MODELS[row["model"]], adapter, "bf16", row["gpu"], threads)
    return NOTHING.of(overheads.SAVE_S, scaled)


def _first_step(row: Row) -> Interval:
    nothing = learn((), overheads.FIRST_STEP_SPREAD, overheads.FIRST_STEP_NOISE)
    return nothing.of(overheads.FIRST_STEP_S[row["setting"]])


def _cell_startup(row: Row) -> Interval:
    return NOTHING.of(*usual_startup(MODELS[row["model"]]))


def _generated(row: Row, asked: Asked, tokens: float) -> Parts:
    gpu = CARDS[row["gpu"]]
    return generation_s(MODELS[row["model"]], gpu, asked, tokens, prior(gpu))


def _decode_step(row: Row) -> Interval:
    batch = int(row["setting"].rpartition(" ")[2])
    return intervals.from_median(_generated(row, Asked(batch, 0.0, batch), 1.0).answers, SPEED_SIGMA)


def _answers(row: Row) -> Interval:
    samples, _, batch = row["setting"].partition(" in batches of ")
    asked = Asked(int(samples), PROMPT_TOKENS * float(samples), int(batch))
    return intervals.from_median(_generated(row, asked, NEW_TOKENS).model, SPEED_SIGMA)


SAID: dict[str, Callable[[Row], Interval]] = {
    "load": _load,
    "first step": _first_step,
    "save": _save,
    "decode step": _decode_step,
    "answers": _answers,
    "cell start-up": _cell_startup,
}


def line(some: list[Told]) -> str:
    """Number of rows, bias, median factor off, coverage and width."""
    logs = [math.log(one.factor) for one in some]
    bias, off = math.exp(statistics.fmean(logs)), math.exp(statistics.median(map(abs, logs)))
    covers = statistics.fmean(one.seconds <= one.said.p95 for one in some)
    width = statistics.median(one.said.p95 / one.said.p50 for one in some)
    return f"{len(some):5} {bias:6.2f} {off:6.2f} {covers:8.0%} {width:8.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", action="store_true", help="each row: measured, p50, p95, its source")
    each = parser.parse_args().each
    found = told()
    print(f"{'what':14} {'rows':>5} {'bias':>6} {'off':>6} {'covers':>8} {'p95/p50':>8}")
    for what in SAID:
        some = [one for one in found if one.row["what"] == what]
        print(f"{what:14} {line(some)}")
        for one in some if each else ():
            row = one.row
            print(
                f"  {one.seconds:8.3g} s  {one.said.p50:8.3g} {one.said.p95:8.3g}  {row['setting']}, {row['model']}, "
                f"{row['gpu']}: {row['source']}"
            )


if __name__ == "__main__":
    main()
