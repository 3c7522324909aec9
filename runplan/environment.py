"""What jobs activate (`site.venv`, `site.conda_env`): what it has, and what may bring more. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from runplan.config import Site

_BRING_NOTHING = re.compile(
    r"(cuda|cudatoolkit|cudnn|nccl|nvhpc|gcc|g?openmpi|ana?conda|miniconda|miniforge|mambaforge|conda|mamba|python)\d*",
    re.IGNORECASE,
)
"""Modules that add no packages to an environment that is activated after them: compilers, CUDA, Pythons."""
_SEPARATORS = re.compile(r"[-_.]+")


@dataclass(frozen=True)
class EnvironmentFacts:
    """A virtual or conda environment, as it is on disk."""

    key: str
    """`site.venv` or `site.conda_env`."""
    name: str
    """Its value: a path, or a name that conda knows."""
    prefix: str = ""
    """Its folder; empty where none was found for a name."""
    lacks: str = ""
    """Why it cannot be activated; empty when it can, or when that is not known."""
    versions: Mapping[str, str] | None = None
    """Package, by `canonical` name → version; None = could not be looked into."""
    open_to: str = ""
    """What may bring packages that are not seen in it; empty when nothing does."""

    @property
    def label(self) -> str:
        """What the user calls it: `site.conda_env=tune`; of a folder, which is said anyway, the key alone."""
        return self.key if self.name == self.prefix else f"{self.key}={self.name}"


def canonical(name: str) -> str:
    """A package's name as indexes compare it: lower case, `-` for any separator."""
    return _SEPARATORS.sub("-", name).lower()


def key_of(site: Site) -> str:
    """Key of a site's environment in `Facts.environments`; empty where jobs take the one they are submitted from."""
    own = f"venv {site.venv}" if site.venv else f"conda {site.conda_env}" if site.conda_env else ""
    return " ".join([own, *site.modules]) if own else ""


def bringing(modules: Iterable[str]) -> tuple[str, ...]:
    """Modules that may bring Python packages, as far as their names tell."""
    return tuple(
        name for name in modules if not any(_BRING_NOTHING.fullmatch(part) for part in re.split(r"[/-]", name))
    )
