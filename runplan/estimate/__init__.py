"""Batch size, GPU memory, speed and wall time of a run.

What is asked and answered: `workload`. Who answers: `calibrated` (physics that earlier logs calibrate) or `rules` (the
hand method). What logs teach is kept by `calibration`; `evidence` says which of them stand behind an estimate.

    logs/         what a log is to all estimates: its settings, which of its figures count, which logs repeat others
    memory/       closed forms of a step, the allocator, what lies outside it, runs that got through or ran out
    speed/        roofline, constants of GPU types, and the model that logs teach
    wall_time/    start-up, first step, steps, validation, checkpoints
    evaluation/   cells: start-up, generation, length of answers
    steps         optimizer steps, packs and padded lengths
    intervals     arithmetic of medians and 95th percentiles; `factors` on what is usual, as logs teach them
"""
