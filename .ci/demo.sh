#!/usr/bin/env bash
# What runplan does, on real files, from the current folder. It has tasks/ (the evaluation) and logs/ (of real runs, other
# people's): `make demo` sees to that. Needs neither SLURM nor a model nor a terminal.
set -euo pipefail

show() {
  printf '\n$ %s\n\n' "$*"
  "$@"
}

# What this machine has, as a site file; conf/site/local.yaml makes it the default here.
show runplan init demo --yes --seconds 5

# What can be learnt from the logs.
show runplan priors logs

# The interview with its defaults: a model folder and a dataset are made here, so that everything the runs need exists.
show runplan ask --yes model=tiny lora.rank=4,64 seed=1,2 dataset.create=true 'priors.paths=[logs]' group.name=tiny

# The group as it is: planned, not submitted.
show runplan status outputs/tiny

# The main thing. The models are not here: the group is written all the same, and says how to get what is missing.
show python -m runplan -m model=1B,3B lora.rank=4,64 dataset.create=true 'priors.paths=[logs]' group.name=ranks

# The same again changes nothing; another rank would be added beside the others.
show runplan -m model=1B,3B lora.rank=4,16,64 dataset.create=true 'priors.paths=[logs]' group.name=ranks preview=true

show find outputs/ranks/1B_rank4 outputs/ranks/1B_base -type f

printf '\nTo look at: %s\n' "$PWD/outputs/ranks/report.html" "$PWD/outputs/ranks/README.md"
