"""The shapes of the models that are measured: those of conf/model, and wider tiny ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from runplan.catalogue import models
from runplan.facts import Architecture
from runplan.paths import CONF_DIR

MADE: dict[str, dict[str, str | int]] = {
    "tiny-wide": {
        "name": "tiny-wide",
        "folder": "Tiny-Wide",
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "intermediate_size": 512,
    },
    "tiny-512": {
        "name": "tiny-512",
        "folder": "Tiny-512",
        "hidden_size": 512,
        "num_hidden_layers": 8,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "intermediate_size": 1536,
    },
}
"""Shapes beside those of conf/model, as what they change of the tiny one."""


def shapes() -> dict[str, Architecture]:
    """Architectures by the grid's names."""
    known = models([CONF_DIR])
    numbers = {
        name: {key: value for key, value in keys.items() if isinstance(value, int)} for name, keys in MADE.items()
    }
    return {**known, **{name: replace(known["tiny"], **dims) for name, dims in numbers.items()}}


def folder_of(name: str, models_dir: Path) -> Path:
    """The folder conf/model expects a model in."""
    if name in MADE:
        return models_dir / str(MADE[name]["folder"])
    text = (CONF_DIR / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    return models_dir / re.findall(r"^folder: (.+)$", text, re.MULTILINE)[0]
