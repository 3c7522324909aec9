"""runplan: from one Hydra command line to a verified, sized, ready-to-run group of fine-tuning runs.

One straight flow; a package or a file is one stage of it:

    app, sweep/         override lines to composed, typed runs: Hydra is met here
    locate, read/       what is really there: models, datasets, tasks, disk, trainer (`facts`)
    priors/             earlier logs to records
    estimate/           batch size, memory, speed and wall time, from architecture and records
    planning            the pure middle: all of that to one `plan`; recipe, naming, evaluations and workloads serve it
    verify/             what runs need and ask for, held against what is there
    trainers/, recipes/ what each trainer is told; programs of ours that it runs
    files/              the files of a group: rendered, written, read back
    summary/, report/   the plan as people read it: screen, README.md, report.html
    jobs/, slurm/       job scripts and what became of jobs; SLURM's words and commands
    submit/, status/, collect/    the verbs after planning
    ask/, discover/, completion/  the interview, `init`, the shell's completion

`group` leads through planning and `cli` to the verbs. What is pure and what reaches outside, and what may import what,
stands in tests/test_architecture.py.
"""
