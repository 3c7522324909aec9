"""Whether what jobs activate has what they need: the trainer, the evaluation library. Pure.

What is installed is told by what installers leave beside each package; nothing is imported and no process is started.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from runplan.config import Config
from runplan.environment import EnvironmentFacts, canonical
from runplan.facts import Status
from runplan.plan import Check

INSPECT = "inspect-ai"
INSPECT_VERSION = "0.3.285"
"""Inspect's version that our cells are tried with."""
BESIDE = {"torchtune": ("torch", "torchao"), "trl": ("torch", "peft", "transformers", "accelerate")}
"""Trainer → packages that its jobs cannot do without, and that are not installed with every version of it."""


@dataclass(frozen=True)
class Need:
    """What one kind of job needs of the environment."""

    kind: str
    """Kind of the row: trainer or evaluation."""
    name: str
    version: str
    install: str
    """What `pip install` gets."""
    beside: tuple[str, ...] = ()
    exact: bool = True
    """Whether another version will not do; else it is only said."""
    setting: str = ""
    """Key that takes another version instead."""


def trainer_need(config: Config, install: str, *, wandb: bool = False) -> Need:
    """What the training job of a run needs."""
    trainer = config.trainer
    beside = (*BESIDE.get(trainer.name, ()), *(["wandb"] if wandb else []))
    return Need("trainer", trainer.name, trainer.version, install, beside, setting="trainer.version")


def evaluation_need(configs: Sequence[Config]) -> Need | None:
    """What the evaluation cells of runs need; None where nothing is evaluated."""
    evaluated = [config for config in configs if config.evaluation.enabled]
    if not evaluated:
        return None
    adapters = any(each.train and (each.trainer.name == "trl" or each.trainer.save_adapter_weights_only)
                   for each in evaluated)  # fmt: skip
    beside = ("torch", "transformers", "accelerate", *(["peft"] if adapters else []))
    return Need("evaluation", INSPECT, INSPECT_VERSION, f"{INSPECT}=={INSPECT_VERSION}", beside, exact=False)


def environment_check(need: Need, found: EnvironmentFacts) -> Check:
    """The row that says whether an environment has what one kind of job needs."""
    if found.lacks:
        install = _installed(" ".join([need.install, *_beside(need)]), found)
        fix = f"make it: {_made(found)} && {install}; or set {found.key} to the one that jobs use"
        return Check(need.kind, need.name, found.prefix, Status.missing, f"{found.label} {found.lacks}", fix)
    if found.versions is None:
        detail = f"{need.version} is expected in the jobs' {found.label}, which could not be looked into"
        return Check(need.kind, need.name, found.prefix, Status.unchecked, detail)
    seen = found.versions.get(canonical(need.name))
    absent = [name for name in need.beside if name not in found.versions]
    if seen is None:
        install = " ".join([need.install, *(name for name in _beside(need) if name in absent)])
        return _absent(need, found, [need.name, *absent], install)
    if not _same_version(seen, need.version):
        return _other_version(need, found, seen)
    if absent:
        return _absent(need, found, absent, " ".join(absent), f"version {seen}, but ")
    return Check(need.kind, need.name, found.prefix, Status.ok, f"version {seen} in {found.label}")


def _beside(need: Need) -> list[str]:
    """What is to be installed that the line for the library itself does not name."""
    named = {word.partition("==")[0] for word in need.install.split()}
    return [name for name in need.beside if name not in named]


def _absent(need: Need, found: EnvironmentFacts, names: Sequence[str], install: str, seen: str = "") -> Check:
    are = "is" if len(names) == 1 else "are"
    detail = f"{seen}{' and '.join(names)} {are} not in {found.label}"
    detail += f", unless {found.open_to}" if found.open_to else ""
    status = Status.unchecked if found.open_to else Status.missing
    return Check(need.kind, need.name, found.prefix, status, detail, _installed(install, found))


def _other_version(need: Need, found: EnvironmentFacts, seen: str) -> Check:
    if not need.exact:
        detail = f"version {seen} in {found.label}; cells are tried with {need.version}"
        return Check(need.kind, need.name, found.prefix, Status.ok, detail)
    detail = f"{seen} is in {found.label}, {need.setting} is {need.version}"
    fix = f"{_installed(need.install, found)}, or set {need.setting}={seen}"
    return Check(need.kind, need.name, found.prefix, Status.missing, detail, fix)


def _same_version(seen: str, wanted: str) -> bool:
    """`0.6.1+cpu` is a build of 0.6.1."""
    return seen == wanted or ("+" not in wanted and seen.partition("+")[0] == wanted)


def _made(found: EnvironmentFacts) -> str:
    folder = shlex.quote(found.prefix)
    return f"python3 -m venv {folder}" if found.key == "site.venv" else f"conda create -y -p {folder} python pip"


def _installed(what: str, found: EnvironmentFacts) -> str:
    """The command that installs into an environment; one that `uv` made has no pip of its own."""
    if not found.prefix:
        return f"pip install {what}"
    python = shlex.quote(f"{found.prefix}/bin/python")
    if found.versions is not None and "pip" not in found.versions:
        return f"uv pip install --python {python} {what}"
    return f"{python} -m pip install {what}"
