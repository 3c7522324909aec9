"""Batch size, GPU memory, speed and wall time of a run."""
