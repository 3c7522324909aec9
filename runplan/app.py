"""The edge to Hydra's application: schema and resolvers in, one composition, then our sweeper.

Planning calls Hydra's multirun directly, because `hydra.main` composes once more to find out the mode; everything
else that Hydra's own command line can do goes through `hydra.main`.
"""

from __future__ import annotations

import logging
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import hydra
from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra

from runplan import resolvers
from runplan.config import Config
from runplan.errors import ConfigError, Problem
from runplan.paths import CONF_DIR, CONF_SCHEME, named_conf_dirs, user_conf_dirs
from runplan.sweep.check_command import CommandError, check_command
from runplan.sweep.hydra_errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from hydra.core.config_search_path import ConfigSearchPath
    from omegaconf import DictConfig

    from runplan.sweep.runs import Sweep

CONFIG_NAME = "runplan"
VERSION_BASE = "1.3"


def prepare() -> None:
    """Store the schema and register the resolvers; safe to call again.

    Raises:
        ConfigError: `RUNPLAN_CONF` names a folder that does not exist.
    """
    ConfigStore.instance().store(name="schema", node=Config, provider="runplan")
    resolvers.register()
    missing = [path for path in named_conf_dirs() if not path.is_dir()]
    if missing:
        raise ConfigError(
            [Problem(f"there is no folder {path}", "RUNPLAN_CONF", "create it or unset") for path in missing]
        )


def _search_path(config_dir: Path | None) -> ConfigSearchPath:
    search_path = create_config_search_path(str(CONF_DIR))
    if config_dir is not None:
        if not config_dir.is_dir():
            raise ConfigError([Problem(f"there is no folder {config_dir}", "--config-dir", "name an existing folder")])
        schema = SearchPathQuery(provider="schema")
        search_path.prepend(provider="command-line", path=f"{CONF_SCHEME}{config_dir.absolute()}", anchor=schema)
    return search_path


@contextmanager
def started(config_dir: Path | None = None) -> Iterator[Hydra]:
    """Hydra with our schema and search path, cleared at the end.

    Raises:
        ConfigError: a folder of the user's does not exist.
    """
    prepare()
    version.setbase(VERSION_BASE)
    GlobalHydra.instance().clear()
    try:
        yield Hydra.create_main_hydra2(CONFIG_NAME, _search_path(config_dir))
    finally:
        GlobalHydra.instance().clear()


def plan(
    overrides: Sequence[str], config_dir: Path | None = None, show: Sequence[str] = (), *, summary: bool = True
) -> int:
    """Plan the sweep that override lines name; returns the exit code.

    Args:
        overrides: lines as on the command line.
        config_dir: one more folder of config groups.
        show: files whose texts are printed; nothing is written then.
        summary: whether to print it; False says only where the group went.

    Raises:
        RunplanError: what is wrong with the command line, the config files or the plan.
    """
    sweep = compose([*overrides, "preview=true"] if show else overrides, config_dir)
    for note in [*sweep.notes, *_unused()]:
        print(f"note: {note}", file=sys.stderr)  # noqa: T201 - the user's screen is the place
    from runplan.group import plan_group  # noqa: PLC0415 - not needed when composing fails

    return plan_group(
        sweep.composed, sweep.command, sweep.experiment, show=show, directory=sweep.directory, summary=summary
    )


def compose(overrides: Sequence[str], config_dir: Path | None = None) -> Sweep:
    """Every run that override lines name, composed and typed.

    Raises:
        ConfigError: everything that is wrong with the command line and the config files.
    """
    with started(config_dir) as made:
        loader = made.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        try:
            check_command(overrides, loader)
        except CommandError as error:
            every = [*error.problems, *_behind(made, error.fine)]
            raise ConfigError(list(dict.fromkeys(every))) from error
        with translated(overrides):
            sweep: Sweep = made.multirun(CONFIG_NAME, _task, list(overrides), with_log_configuration=False)
    return sweep


def _behind(made: Hydra, lines: Sequence[str]) -> Sequence[Problem]:
    """Problems of the lines that can be read, to be reported together with those of lines that cannot."""
    try:
        with translated(lines):
            made.multirun(CONFIG_NAME, _task, list(lines), with_log_configuration=False)
    except ConfigError as error:
        return error.problems
    return ()


def _unused() -> list[str]:
    """Primary configs in `./conf`, which only `RUNPLAN_CONF` puts in place of ours."""
    found = [conf.path / f"{CONFIG_NAME}.yaml" for conf in user_conf_dirs() if not conf.named]
    return [f"{path} is not used; RUNPLAN_CONF={path.parent} would put it in place" for path in found if path.is_file()]


def _task(_: DictConfig) -> None:
    raise ConfigError(
        [Problem("runplan plans a sweep as a whole; Hydra's own runs are not used", "hydra.mode", "drop it")]
    )


def show_config(
    overrides: Sequence[str], config_dir: Path | None, cfg: str, package: str | None = None, *, resolve: bool = False
) -> int:
    """Print what Hydra's `--cfg` prints, composed from the files as planning reads them; returns the exit code.

    Hydra's own command line reads the folder of `--config-dir` itself, in which `account: 007` is 7.

    Args:
        overrides: lines as on the command line.
        config_dir: one more folder of config groups.
        cfg: `job`, `hydra` or `all`.
        package: a part of the config; None for all of it.
        resolve: whether interpolations are resolved.

    Raises:
        ConfigError: what is wrong with the command line or the config files.
    """
    try:
        with started(config_dir) as made, translated(overrides):
            made.show_cfg(CONFIG_NAME, list(overrides), cfg, package, resolve)
    except SystemExit as error:  # there is no such package
        return error.code if isinstance(error.code, int) else 1
    return 0


def show_info(overrides: Sequence[str], config_dir: Path | None, info: str) -> int:
    """Print what Hydra's `--info` prints, of the files as planning reads them; returns the exit code.

    Args:
        overrides: lines as on the command line.
        config_dir: one more folder of config groups.
        info: `all`, `config`, `defaults`, `defaults-tree`, `plugins` or `searchpath`.

    Raises:
        ConfigError: what is wrong with the command line or the config files.
    """
    logging.raiseExceptions = False  # Hydra logs what it shows: no traceback where a reader has seen enough (`head`)
    with started(config_dir) as made, translated(overrides):
        made.show_info(info, CONFIG_NAME, list(overrides))
    return 0


def hydra_command(argv: Sequence[str]) -> int:
    """Hand a command line to Hydra itself: `--hydra-help`, and whatever composes another config; returns its exit code.

    Raises:
        RunplanError: what is wrong with the command line or the config files.
    """
    prepare()
    before_argv, before_error = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    sys.argv = [sys.argv[0], *argv]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints what it thinks of the error and exits with 1
    try:
        with translated(argv):
            hydra.main(config_path=str(CONF_DIR), config_name=CONFIG_NAME, version_base=VERSION_BASE)(_task)()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        sys.argv = before_argv
        if before_error is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before_error
    return 0
