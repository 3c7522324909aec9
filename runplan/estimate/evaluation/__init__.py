"""Seconds of an evaluation cell: start-up, generation, length of answers, and what earlier evaluations teach."""
