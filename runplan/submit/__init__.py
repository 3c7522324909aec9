"""From a written group to jobs: what is due (pure), and the edges that hand it to SLURM or to this machine."""
