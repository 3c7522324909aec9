"""Seconds of a training job: start-up, first step, steps, validation and checkpoints."""
