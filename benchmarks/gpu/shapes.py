"""The shapes of the models that are measured: those of conf/model, and a wider tiny one."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from runplan.catalogue import models
from runplan.facts import Architecture
from runplan.paths import CONF_DIR

WIDE = {
    "name": "tiny-wide",
    "folder": "Tiny-Wide",
    "hidden_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "intermediate_size": 512,
}


def shapes() -> dict[str, Architecture]:
    """Architectures by the grid's names."""
    known = models([CONF_DIR])
    dims = {key: value for key, value in WIDE.items() if isinstance(value, int)}
    return {**known, WIDE["name"]: replace(known["tiny"], **dims)}


def folder_of(name: str, models_dir: Path) -> Path:
    """The folder conf/model expects a model in."""
    if name == WIDE["name"]:
        return models_dir / str(WIDE["folder"])
    text = (CONF_DIR / "model" / f"{name}.yaml").read_text(encoding="utf-8")
    return models_dir / re.findall(r"^folder: (.+)$", text, re.MULTILINE)[0]
