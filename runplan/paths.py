"""Where conf/, templates/ and tasks/ are: our own, and the user's conf folders; paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_PACKAGE = Path(__file__).resolve().parent


def _shipped(name: str) -> Path:
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


CONF_DIR = _shipped("conf")
TEMPLATES_DIR = _shipped("templates")
TASKS_DIR = _shipped("tasks")
RECIPES_DIR = _PACKAGE / "recipes"
CONF_SCHEME = "runplan-conf://"
"""How the path of a conf folder that the user names begins on Hydra's search path."""


def cache_dir() -> Path:
    """The user's cache directory for runplan: `$XDG_CACHE_HOME/runplan`, else `~/.cache/runplan`."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if root.startswith("/") else home() / ".cache") / "runplan"


def home() -> Path:
    """The user's home; `/`, where nothing can be kept, for one who has none: containers have users without a name."""
    found = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises where there is none
    return Path(found if found.startswith("/") else "/")


def absolute(path: str, cwd: Path) -> Path:
    """A path as users write it (`~`, `$SCRATCH`, relative to `cwd`) as an absolute one."""
    expanded = os.path.expanduser(os.path.expandvars(path))  # noqa: PTH111 - Path's own raises for unknown users
    return Path(os.path.normpath(cwd / expanded))


class UserConf(NamedTuple):
    """A conf folder of the user's."""

    path: Path
    """Absolute."""
    named: bool
    """By `RUNPLAN_CONF`; else it is `./conf`."""


def named_conf_dirs() -> tuple[Path, ...]:
    """Folders of `RUNPLAN_CONF` (several are separated as in PATH), absolute, whether or not they exist."""
    named = os.environ.get("RUNPLAN_CONF", "").split(os.pathsep)
    written = (os.path.expanduser(part) for part in named if part)  # noqa: PTH111 - Path's own raises for unknown users
    return tuple(Path(part).absolute() for part in written)


def user_conf_dirs() -> tuple[UserConf, ...]:
    """Existing conf folders of the user's, first wins: those of `RUNPLAN_CONF`, then `./conf`; never our own."""
    found = [UserConf(path, named=True) for path in named_conf_dirs() if path.is_dir()]
    here = Path("conf").absolute()
    known = {CONF_DIR.resolve(), *(conf.path.resolve() for conf in found)}
    if here.is_dir() and here.resolve() not in known:
        found.append(UserConf(here, named=False))
    return tuple(found)


def user_template_dirs() -> tuple[Path, ...]:
    """Folders of the user's own templates, `templates/` in their conf folders; a file there takes the place of ours."""
    return tuple(path for conf in user_conf_dirs() if (path := conf.path / "templates").is_dir())


def conf_dirs() -> tuple[Path, ...]:
    """Folders of configuration in order of search: the user's, then what runplan ships."""
    return (*(conf.path for conf in user_conf_dirs()), CONF_DIR)
