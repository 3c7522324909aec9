#!/usr/bin/env bash
# What runplan does, on real files, from the current folder. It has tasks/ (the evaluation) and logs/ (of real runs, other
# people's): `make demo` sees to that.
set -euo pipefail

show() {
  printf '\n$ %s\n\n' "$*"
  "$@"
}

# What can be learnt from the logs.
show runplan priors logs

# A model folder and a dataset that are made here, so that everything the runs need exists.
show python -m runplan -m model=tiny lora.rank=4,64 seed=1,2 dataset.create=true 'priors.paths=[logs]' group.name=tiny

# Models that are not here: the group is written all the same, and says how to get what is missing.
show python -m runplan -m model=1B,3B lora.rank=4,64 dataset.create=true 'priors.paths=[logs]' group.name=ranks

show find outputs/ranks/1B_rank4 outputs/ranks/1B_base -type f
