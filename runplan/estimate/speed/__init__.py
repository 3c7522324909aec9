"""Seconds of an optimizer step: a roofline, what is known of GPU types, and what logs teach about them.

`roofline` times a `step` with the constants of a GPU type (`gpu_constants`); a log is an `observation` of one, and
`posterior` is what physics and all of them say together.
"""
