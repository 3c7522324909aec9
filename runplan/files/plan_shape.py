"""The parts of a `plan.json` that are read again, and what an edited one has wrong. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runplan.units import parse_memory_gib, parse_slurm_time


def _read_by(parse: Callable[[str], object]) -> Callable[[object], bool]:
    """Whether a value is null or a text that can be read so."""

    def good(value: object) -> bool:
        try:
            if isinstance(value, str):
                parse(value)
        except ValueError:
            return False
        return value is None or isinstance(value, str)

    return good


TEXT, MAYBE_TEXT = (str,), (str, type(None))
NUMBER = (int, float, type(None))
TIME, MEMORY = _read_by(parse_slurm_time), _read_by(parse_memory_gib)
WORDS = {
    TEXT: "text", MAYBE_TEXT: "text or null", NUMBER: "a number or null",
    TIME: "a time such as 02:30:00 or null", MEMORY: "an amount of memory such as 64G or null",
}  # fmt: skip
_SPREAD = {"p50": NUMBER, "p95": NUMBER}
_RESOURCES = {"gpus": NUMBER, "time": TIME, "mem": MEMORY, "cpus_per_task": NUMBER}
_CELL = {"task": TEXT, "epoch": NUMBER, "dir": TEXT, "time_s": _SPREAD, "resources": _RESOURCES}
_ESTIMATE = {"it_per_s": NUMBER, "time_s": _SPREAD, "peak_memory_gib": _SPREAD, "allocated_gib": NUMBER}
_RUN = {
    "name": TEXT, "type": TEXT, "dir": TEXT, "token": TEXT, "factors": {}, "config": {}, "recipe": MAYBE_TEXT,
    "steps": {"per_epoch": NUMBER, "total": NUMBER}, "estimate": _ESTIMATE, "resources": _RESOURCES,
    "gpu_hours": _SPREAD, "cells": [_CELL],
}  # fmt: skip
PLAN = {
    "group": TEXT, "design": {"factors": {}}, "runs": [_RUN],
    "verified": [{"kind": TEXT, "name": TEXT, "path": TEXT, "status": TEXT}], "totals": {"gpu_hours": _SPREAD},
}  # fmt: skip
"""Mapping: these keys at least; list: each item so; else the types that are right, or what says whether it is."""


def wrong_part(document: object) -> str:
    """The first part of a plan that is not as `document.py` writes it, such as `runs[0].cells: no list`; or empty."""
    return next(_wrong(document, PLAN, ""), "")


def _wrong(value: object, shape: Any, where: str) -> Iterator[str]:
    if isinstance(shape, Mapping):
        if not isinstance(value, Mapping):
            yield f"{where}: no mapping"
            return
        for key, inner in shape.items():
            path = f"{where}.{key}".lstrip(".")
            if key in value:
                yield from _wrong(value[key], inner, path)
            else:
                yield f"{path} is not there"
    elif isinstance(shape, list):
        if not isinstance(value, Sequence) or isinstance(value, str):
            yield f"{where}: no list"
            return
        for number, item in enumerate(value):
            yield from _wrong(item, shape[0], f"{where}[{number}]")
    elif not (shape(value) if callable(shape) else isinstance(value, shape)):
        yield f"{where}: {value!r:.40} is not {WORDS[shape]}"
