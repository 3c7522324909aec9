"""What jobs activate, as it lies on disk: where a conda environment is, and what installers left in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from runplan.config import Site
from runplan.environment import EnvironmentFacts, bringing, canonical
from runplan.paths import absolute, home

_INSTALLED = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]*?)-(?P<version>\d[^-]*)(-py[\d.]+)?\.(dist|egg)-info")
_PYTHON = re.compile(r"python3\.\d+t?")
_CONDA_HOMES = ("miniforge3", "miniconda3", "anaconda3", "mambaforge", "micromamba")
"""Where installers of conda put it below a home."""


def read_environment(site: Site, cwd: Path) -> EnvironmentFacts | None:
    """The environment that a site's jobs activate; None where it names none. Where it names two, the last one counts.

    Args:
        site: as it is configured.
        cwd: where a relative `site.venv` begins.
    """
    if site.venv:
        prefix = absolute(site.venv, cwd)
        return _looked_into("site.venv", str(prefix), prefix, site)
    if not site.conda_env:
        return None
    prefix_of = conda_prefix(site.conda_env)
    if prefix_of is None:
        return EnvironmentFacts("site.conda_env", site.conda_env)
    return _looked_into("site.conda_env", site.conda_env, prefix_of, site)


def installed_here() -> Mapping[str, str]:
    """Packages of the environment that runplan itself runs in, by canonical name → version."""
    return installed(path for path in sys.path if path.endswith(("site-packages", "dist-packages")))


def packages_in(prefix: Path) -> dict[str, str]:
    """Packages in an environment's folder, by canonical name → version."""
    return installed(_packages(prefix))


def installed(folders: Iterable[str | os.PathLike[str]]) -> dict[str, str]:
    """Packages whose installers left their mark in folders of packages, by canonical name → version; first wins."""
    found: dict[str, str] = {}
    for folder in folders:
        here = {}
        for name in sorted(_names(Path(folder))):
            mark = _INSTALLED.fullmatch(name)
            if mark:
                here[canonical(mark["name"])] = mark["version"]
        found = here | found
    return found


def conda_prefix(name: str) -> Path | None:
    """The folder of a conda environment: a path as it is, a name where conda usually keeps such; None if not found."""
    if "/" in name:
        path = Path(os.path.expanduser(name))  # noqa: PTH111 - Path's own raises for unknown users
        return path if path.is_absolute() else None  # else it begins wherever the job runs
    if name == "base":
        return next((root for root in _conda_roots() if _is_dir(root / "conda-meta")), None)
    return next((folder for folder in _folders_called(name) if _is_dir(folder)), None)


def _conda_roots() -> Iterator[Path]:
    program = os.environ.get("CONDA_EXE", "")
    if program:
        yield Path(program).parent.parent
    for variable in ("CONDA_ROOT", "MAMBA_ROOT_PREFIX"):
        if os.environ.get(variable):
            yield Path(os.environ[variable])
    yield from (home() / name for name in _CONDA_HOMES)


def _folders_called(name: str) -> Iterator[Path]:
    """In the order in which conda looks: folders that it is told of, its own, the user's, those it remembers."""
    for variable in ("CONDA_ENVS_DIRS", "CONDA_ENVS_PATH"):
        yield from (Path(folder) / name for folder in os.environ.get(variable, "").split(os.pathsep) if folder)
    yield from (folder / name for folder in _configured())
    yield from (root / "envs" / name for root in _conda_roots())
    yield home() / ".conda/envs" / name
    for line in _text(home() / ".conda/environments.txt").splitlines():
        path = Path(line.strip())
        if path.is_absolute() and path.name == name and path.parent.name == "envs":
            yield path


def _configured() -> list[Path]:
    """`envs_dirs` of the user's .condarc."""
    text = _text(home() / ".condarc")
    if "envs_dirs" not in text:
        return []
    from runplan import yaml_text  # noqa: PLC0415 - start-up time

    try:
        folders = yaml_text.load(text).get("envs_dirs")
    except (ValueError, AttributeError):
        return []
    texts = [each for each in folders if isinstance(each, str)] if isinstance(folders, list) else []
    return [Path(os.path.expandvars(os.path.expanduser(each))) for each in texts]  # noqa: PTH111 - as above


def _looked_into(key: str, name: str, prefix: Path, site: Site) -> EnvironmentFacts:
    facts = EnvironmentFacts(key, name, str(prefix))
    try:
        lacks = _lacks(key, prefix)
    except PermissionError:
        return facts
    if lacks:
        return EnvironmentFacts(key, name, str(prefix), lacks)
    packages = _packages(prefix)
    if not packages:
        return facts
    config, is_venv = _pyvenv(prefix), key == "site.venv"
    shares = not is_venv or config.get("include-system-site-packages", "").lower() == "true"
    versions = dict.fromkeys(path.parent.name for path in packages)
    folders = [home() / ".local/lib" / each / "site-packages" for each in versions if _reads_own(site) and shares]
    if is_venv and shares:
        folders += [Path(config.get("home", "")).parent / "lib" / each / "site-packages" for each in versions]
    folders = [*packages, *folders] if is_venv else [*folders, *packages]  # as Python's own `site` orders them
    opens = [f"site.modules bring it ({', '.join(names)})" for names in [bringing(site.modules)] if names]
    opens += ["site.env's PYTHONPATH brings it"] if site.env.get("PYTHONPATH") else []
    opens += ["the system's Python has it"] if shares and is_venv else []
    return EnvironmentFacts(key, name, str(prefix), "", installed(folders), " or ".join(opens))


def _reads_own(site: Site) -> bool:
    """Whether Python looks for packages in the user's home."""
    return not site.env.get("PYTHONNOUSERSITE")


def _lacks(key: str, prefix: Path) -> str:
    """Why it cannot be activated.

    Raises:
        PermissionError: that may not be seen.
    """
    if not _there(prefix):
        return "is not there"
    if key == "site.venv" and not _there(prefix / "bin/activate"):
        is_conda = _there(prefix / "conda-meta")
        return "is a conda environment: name it with site.conda_env" if is_conda else "has no bin/activate"
    python = prefix / "bin/python"
    if not _there(python):
        return "has a bin/python that leads nowhere" if python.is_symlink() else "has no bin/python"
    return ""


def _there(path: Path) -> bool:
    try:
        path.stat()
    except PermissionError:
        raise
    except (OSError, ValueError):
        return False
    return True


def _packages(prefix: Path) -> list[Path]:
    """Folders of packages of the Python that is there; where several are, of the one that bin/python is."""
    found = [
        prefix / lib / name / "site-packages"
        for lib in ("lib", "lib64")
        for name in sorted(_names(prefix / lib))
        if _PYTHON.fullmatch(name) and _is_dir(prefix / lib / name / "site-packages")
    ]
    try:
        used = (prefix / "bin/python").resolve().name
    except (OSError, RuntimeError):
        used = ""
    return [path for path in found if path.parent.name == used] or found


def _pyvenv(prefix: Path) -> dict[str, str]:
    pairs = (line.partition("=") for line in _text(prefix / "pyvenv.cfg").splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, of folders with thousands
    except OSError:
        return []


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False
