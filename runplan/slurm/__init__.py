"""SLURM: what it says about itself and about jobs, and requests in its notations."""
