"""The `rp.*` resolvers: marks where runplan works a value out, and the few that only compute text.

A mark is `${rp.<name>:}` in `conf/`. Planning never resolves marks: it finds them by `mark_of` and fills them in from
the estimate. Only printing does (`--cfg job --resolve`), by planning that one config.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from runplan.plan import Composed

MARKS: dict[str, str] = {
    "rp.batch_size": "batch_size",
    "rp.effective_batch_size": "effective_batch_size",
    "rp.gradient_accumulation_steps": "gradient_accumulation_steps",
    "rp.lora_alpha": "lora.alpha",
    "rp.num_warmup_steps": "optimizer.num_warmup_steps",
    "rp.cpus_per_task": "resources.cpus_per_task",
    "rp.mem": "resources.mem",
    "rp.time": "resources.time",
    "rp.run_val_every_n_steps": "trainer.run_val_every_n_steps",
}
"""Resolver → the key of the plan's config whose value it stands for."""

_MARK = re.compile(r"\$\{\s*(rp\.\w+)\s*:[^{}]*\}")


def mark_of(text: object) -> str | None:
    """The mark that a raw config value is, such as `rp.time`; None when it is anything else."""
    if not isinstance(text, str):
        return None
    match = _MARK.fullmatch(text)
    return match[1] if match and match[1] in MARKS else None


def percent(fraction: float) -> int:
    """A fraction in whole percent: 0.8 → 80, as dataset file names have it."""
    return round(float(fraction) * 100)


def label(path: str | None, otherwise: str) -> str:
    """What a data file or an Inspect file is called in tables: its stem; `inspect.py` after its folder.

    >>> label("data/french.json", "json"), label("tasks/french/inspect.py", "script"), label(None, "json")
    ('french', 'french', 'json')
    """
    if not path:
        return otherwise
    file = PurePath(path)
    return file.parent.name or otherwise if file.name == "inspect.py" else file.stem


def task_of(task: str | None, path: str | None, name: str, source: str | None = None) -> str:
    """The task a dataset belongs to: what the user says, else the folder that holds its `input/`, else its name.

    >>> task_of(None, "tasks/french/input/a.json", "a"), task_of(None, "data/french.json", "french")
    ('french', 'french')
    """
    folder = PurePath(path or source or "").parent
    return task or (folder.parent.name if folder.name == "input" else "") or name


def device(gpu: str) -> str:
    """Where a node of this kind trains: `cpu`, or `cuda`."""
    return "cpu" if gpu == "cpu" else "cuda"


def folder_name(path: str | None, repository: str | None = None) -> str:
    """What a model is called that only its folder names, or its repository: the last part; `hf` where none is named.

    >>> folder_name("/models/x/"), folder_name(None, "org/x"), folder_name(None)
    ('x', 'x', 'hf')
    """
    return str(path or repository or "").rstrip("/").rpartition("/")[2] or "hf"


TEXTS: Mapping[str, Callable[..., object]] = {
    "rp.percent": percent,
    "rp.label": label,
    "rp.task": task_of,
    "rp.device": device,
    "rp.folder_name": folder_name,
}
"""Resolver → what computes it, from its arguments alone (`references.STEADY` counts on that)."""


def register() -> None:
    """Register all of `rp.*`; safe to call again."""
    for name, computed in TEXTS.items():
        OmegaConf.register_new_resolver(name, computed, replace=True)
    for name in MARKS:
        OmegaConf.register_new_resolver(name, _estimated(name), replace=True)


def _estimated(name: str) -> Any:
    def resolve(*_: Any, _root_: DictConfig) -> Any:
        from runplan.group import resolve_mark  # noqa: PLC0415 - planning is not needed to compose

        return resolve_mark(MARKS[name], _last.composed(_root_))

    return resolve


class _Last:
    """The config that is being printed, as it was before its first mark was replaced by a value.

    `OmegaConf.resolve` writes each value into the tree it is walking; a batch size that is already written there
    would look like one that the user set, and change the accumulation that is asked for next.
    """

    def __init__(self) -> None:
        self._composed: Composed | None = None
        self._root: DictConfig | None = None

    def composed(self, root: DictConfig) -> Composed:
        from runplan.sweep.run_composer import composed_of  # noqa: PLC0415 - it imports this module

        now = composed_of(root)
        last = self._composed
        if last is None or self._root is not root or not _unchanged(last, now):
            self._root, self._composed = root, now
            return now
        return last


def _unchanged(last: Composed, now: Composed) -> bool:
    """Whether two readings of a config differ only in keys that were marks in the first."""
    before, after = dict(leaves(last.tree)), dict(leaves(now.tree))
    return all(
        after.get(key) == value for key, value in before.items() if mark_of(value) is None and "${" not in str(value)
    )


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key and value of everything in nested mappings that is no mapping."""
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


_last = _Last()
