"""Numbers that no run has: what damaged text makes of digits is unknown, not a number."""

from __future__ import annotations

from typing import Any

from runplan.priors.record import MemoryGib

_LIMITS: dict[str, tuple[float, float]] = {
    "params_b": (1e-6, 1e5),
    "lora_rank": (1, 1e5),
    "lora_alpha": (0, 1e6),
    "batch_size": (0, 1e6),
    "gradient_accumulation_steps": (1, 1e6),
    "max_seq_len": (1, 1e9),
    "num_gpus": (0, 1e6),
    "cpus": (1, 1e5),
    "epochs": (1, 1e6),
    "steps_done": (0, 1e12),
    "steps_total": (1, 1e12),
    "steps_per_epoch": (1, 1e12),
    "it_per_s": (1e-9, 1e7),
    "s_per_step": (1e-7, 1e9),
    "tokens_per_s": (1e-9, 1e12),
    "trained_tokens_per_s": (1e-9, 1e12),
    "first_step_s": (1e-7, 1e9),
    "wall_s": (0, 1e9),
}
"""Field → least and most that is believed; far beyond what there is."""
_MOST_GIB = 1e5
_MOST_SAVING_S = 1e7


def believed(fields: dict[str, Any]) -> dict[str, Any]:
    """Fields of a record that are known and can be true."""
    known: dict[str, Any] = {}
    for key, value in fields.items():
        limits = _LIMITS.get(key)
        if value is not None and (limits is None or limits[0] <= value <= limits[1]):
            known[key] = value
    for key in ("peak_memory_gib", "init_memory_gib"):
        if key in known and not _is_believed(memory := known[key]):
            del known[key]
            if (rest := _believed_memory(memory)) is not None:
                known[key] = rest
    if known.get("checkpoint_s"):
        known["checkpoint_s"] = tuple(value for value in known["checkpoint_s"] if 0 <= value <= _MOST_SAVING_S)
    return known


def _is_believed(memory: MemoryGib) -> bool:
    return all(value is None or 0 < value <= _MOST_GIB for value in vars(memory).values())


def _believed_memory(memory: MemoryGib) -> MemoryGib | None:
    kinds = {kind: value for kind, value in vars(memory).items() if value is not None and 0 < value <= _MOST_GIB}
    return MemoryGib(**kinds) if kinds else None
