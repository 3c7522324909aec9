"""The simulation of benchmarks/allocator, for tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import memory as measured_memory
from allocator import caching, draws, grid, hugging_face, programs, recipe, sharded

__all__ = ["caching", "draws", "grid", "hugging_face", "measured_memory", "programs", "recipe", "sharded"]
