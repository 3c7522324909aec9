"""The simulation of benchmarks/allocator, for tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from allocator import caching, differences, draws, fine_tuner, grid, hugging_face, ledger, programs, recipe, sharded

__all__ = [
    "caching",
    "differences",
    "draws",
    "fine_tuner",
    "grid",
    "hugging_face",
    "ledger",
    "programs",
    "recipe",
    "sharded",
]
