"""What torch's allocator reserves for LoRA steps of torchtune, and with how little it would get through, simulated.

    python benchmarks/allocator/grid.py              # the table, some minutes
    python benchmarks/allocator/grid.py --out FILE   # kept as tests/data/allocator.csv

Every model's requests are traced once on fake tensors (recipe.py) and replayed (programs.py) for steps of one size, as
packed rows make them, and for steps of all sizes, as unpacked rows do. `lost_reserved` is what the allocator holds
beyond what is allocated, as a part of what every step allocates and frees; `lost_needed` the same with the smallest GPU
on which the steps get through: short of memory, the allocator gives back what it holds in vain.

How true the simulation is: tests/test_allocator_simulation.py holds it to measured runs.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2])]

from allocator import programs, recipe
from gpu.shapes import shapes

from runplan.estimate.memory import torchtune_step
from runplan.estimate.workload import Adapter, Gpu, Workload
from runplan.facts import Lengths
from runplan.units import GIB

A100 = Gpu("a100-80", 79.15, 2039.0, 312.0, 19.5)
LORA = Adapter(8, ("q_proj", "v_proj", "output_proj"), apply_to_mlp=True)
ATTENTION = Adapter(8, ("q_proj", "v_proj"), apply_to_mlp=False)
SETTINGS = (
    # model, adapter, activation checkpointing, packed
    ("1B", LORA, False, False),
    ("1B", dataclasses.replace(LORA, rank=64), True, False),
    ("1B", ATTENTION, False, False),
    ("3B", LORA, True, False),
    ("3B", dataclasses.replace(LORA, rank=16), False, True),
    ("8B", LORA, False, False),
    ("8B", ATTENTION, True, False),
    ("qwen2.5-0.5B", dataclasses.replace(LORA, rank=16), True, True),
    ("qwen2.5-1.5B", dataclasses.replace(LORA, rank=16), False, False),
    ("qwen2.5-7B", dataclasses.replace(LORA, rank=16), True, False),
)
TOKENS = (512, 1024, 2048, 4096, 8192, 16384)
"""Tokens of a step where all steps are alike."""
STEPS = 4
"""The second step has the optimizer's state, the third meets what the second left."""
UNEVEN_STEPS = 80
PROBES = (512, 512, 1024, 1536, 512)


class Uneven(NamedTuple):
    """Rows of many lengths: log-normal, cut."""

    name: str
    median: float
    sigma: float
    shortest: int
    longest: int
    batch: int

    def rows(self, n: int) -> list[int]:
        """Lengths of rows, always the same."""
        rng = random.Random(1)
        return [
            min(self.longest, max(self.shortest, round(rng.lognormvariate(math.log(self.median), self.sigma))))
            for _ in range(n)
        ]


UNEVEN = (
    Uneven("words", 64, 0.04, 56, 75, 16),
    Uneven("sentences", 120, 0.2, 60, 240, 8),
    Uneven("instructions", 100, 0.65, 20, 1000, 4),
    Uneven("documents", 330, 0.8, 20, 2048, 1),
    Uneven("documents x4", 330, 0.8, 20, 2048, 4),
)


class Row(NamedTuple):
    """One line of the table; bytes are in GiB."""

    model: str
    rank: int
    mlp: bool
    checkpointing: bool
    packed: bool
    rows: str
    batch: int
    longest: int
    fixed_gib: float
    allocated_gib: float
    reserved_gib: float
    needed_gib: float

    @property
    def lost_reserved(self) -> float:
        """Part of what comes and goes."""
        return self._lost(self.reserved_gib)

    @property
    def lost_needed(self) -> float:
        """The same of the smallest GPU that does."""
        return self._lost(self.needed_gib)

    def _lost(self, held: float) -> float:
        return (held - self.allocated_gib) / (self.allocated_gib - self.fixed_gib)


def workload(model: str, adapter: Adapter, checkpointing: bool, packed: bool) -> Workload:
    """A run of torchtune on one GPU."""
    return Workload(
        "torchtune", "0.6.1", shapes()[model], adapter, A100, 1, Lengths(((2048, 1000),)), 2048, packed, "bf16",
        checkpointing, compile=False, epochs=1, effective_batch_size=16, model_name=model,
    )  # fmt: skip


def measured(w: Workload) -> Iterator[Row]:
    """All lines of one setting."""
    what = programs.program(recipe.traced(w, 1, PROBES), PROBES)
    for tokens in TOKENS:
        yield _row(w, what, [tokens] * STEPS, ("even", 1))
    for uneven in UNEVEN if not w.packed else ():
        rows = uneven.rows(UNEVEN_STEPS * uneven.batch)
        batches = [max(rows[i : i + uneven.batch]) for i in range(0, len(rows), uneven.batch)]
        yield _row(w, what, [uneven.batch * longest for longest in batches], (uneven.name, uneven.batch))


def _row(w: Workload, what: programs.Program, tokens: Sequence[int], kind: tuple[str, int]) -> Row:
    peaks = programs.replay(what, tokens)[-1]
    needed = programs.least_capacity(what, tokens, peaks)
    mode = (w.activation_checkpointing, w.packed, False, False)
    fixed = torchtune_step.footprint(w.architecture, w.adapter, w.dtype, mode, w.loss_chunks, 1, w.gpu.name).fixed
    adapter = w.adapter
    gib = (round(size / GIB, 4) for size in (fixed, *peaks, needed))
    return Row(
        w.model_name, adapter.rank, adapter.apply_to_mlp, w.activation_checkpointing, w.packed, *kind,
        max(tokens) // kind[1], *gib,
    )  # fmt: skip


def read(path: Path) -> list[Row]:
    """A table that was kept."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))[1:]
    return [
        Row(
            line[0], int(line[1]), *(value == "True" for value in line[2:5]), line[5], int(line[6]), int(line[7]),
            *map(float, line[8:]),
        )
        for line in lines
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="also write the table to a CSV file")
    out = parser.parse_args().out
    found: list[Row] = []
    print(
        f"{'setting':44}{'rows':14}{'longest':>8}{'allocated':>11}{'reserved':>10}{'needed':>10}{'lost':>8}{'needed':>8}"
    )
    for setting in SETTINGS:
        for row in measured(workload(*setting)):
            found.append(row)
            name = f"{row.model} rank {row.rank} {'+' if row.mlp else '-'}mlp"
            name += f"{' checkpointed' * row.checkpointing}{' packed' * row.packed}"
            figures = f"{row.allocated_gib:11.2f}{row.reserved_gib:10.2f}{row.needed_gib:10.2f}"
            print(f"{name:44}{row.rows:14}{row.longest:8}{figures}{row.lost_reserved:8.2f}{row.lost_needed:8.2f}")
            if out:
                _keep(out, found)


def _keep(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
