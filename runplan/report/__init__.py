"""`report.html`: what people look at, in one file that needs nothing else."""
