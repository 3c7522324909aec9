"""What Hydra finds of runplan: a sweeper that plans the whole sweep, and the user's conf folders on the search path.

Hydra imports this file whenever any Hydra application of the environment starts: it imports nothing of weight,
and acts only when runplan's own conf folder is the one being composed.
"""

# No `from __future__ import annotations`: Hydra runs the module before it is in sys.modules, where dataclass looks.
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.config_store import ConfigStore
from hydra.plugins.search_path_plugin import SearchPathPlugin
from hydra.plugins.sweeper import Sweeper

from runplan.paths import CONF_DIR, CONF_SCHEME, user_conf_dirs

if TYPE_CHECKING:
    from hydra.core.config_search_path import ConfigSearchPath
    from hydra.plugins.config_source import ConfigResult
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


@dataclass
class RunplanSweeperConf:
    """Keys of `hydra.sweeper`: as BasicSweeper's, without batches, for runs are planned together."""

    _target_: str = "hydra_plugins.runplan_plugins.RunplanSweeper"
    params: dict[str, str] | None = None


ConfigStore.instance().store(group="hydra/sweeper", name="runplan", node=RunplanSweeperConf, provider="runplan")


class RunplanSweeper(Sweeper):
    """Composes every combination and hands all of them back at once; planning is not a job of Hydra's."""

    def __init__(self, params: dict[str, str] | None = None) -> None:
        self.params = dict(params or {})
        self.hydra_context: HydraContext | None = None
        self.config: DictConfig | None = None
        self.launcher = None

    def setup(self, *, hydra_context: "HydraContext", task_function: "TaskFunction", config: "DictConfig") -> None:
        """Keep what `sweep` needs; no launcher is made, because nothing is run from here."""
        del task_function
        self.hydra_context = hydra_context
        self.config = config

    def sweep(self, arguments: list[str]) -> Any:
        """Every run of the sweep as a `runplan.sweep.runs.Sweep`; the caller plans them."""
        from runplan.sweep.runs import compose_sweep  # noqa: PLC0415 - other Hydra applications must not pay for it

        assert self.hydra_context is not None
        assert self.config is not None
        loader = self.hydra_context.config_loader
        assert isinstance(loader, ConfigLoaderImpl)
        return compose_sweep(loader, self.config, self.params, list(arguments))


class WorkingFolderSource(FileConfigSource):
    """`./conf`: adds to and overrides our groups, and never replaces what runplan composes."""

    reserved = frozenset({"runplan", "schema"})

    @staticmethod
    def scheme() -> str:
        """Name before `://` in a search path."""
        return "runplan-here"

    def load_config(self, config_path: str) -> "ConfigResult":
        """The file as it was typed: YAML's numbers and truth values are text again where text belongs."""
        from runplan.sweep.literal_files import taken_literally  # noqa: PLC0415 - other Hydra applications must not pay for it

        found = super().load_config(config_path)
        text = Path(self.path, self._normalize_file_name(config_path)).read_text(encoding="utf-8")
        group = config_path.rpartition("/")[0].replace("/", ".")
        package = (found.header or {}).get("package") or group
        found.config = taken_literally(found.config, text, "" if package == "_global_" else package)
        return found

    def is_config(self, config_path: str) -> bool:
        """Whether the folder offers this config; files of reserved names are not there."""
        return config_path.removesuffix(".yaml") not in self.reserved and super().is_config(config_path)


class RunplanConfSource(WorkingFolderSource):
    """A folder of `RUNPLAN_CONF` or `--config-dir`: as `./conf`, but its `runplan.yaml` replaces ours: it was named."""

    reserved = frozenset({"schema"})

    @staticmethod
    def scheme() -> str:
        """Name before `://` in a search path."""
        return CONF_SCHEME.removesuffix("://")


class RunplanSearchPath(SearchPathPlugin):
    """Puts the user's conf folders before ours."""

    def manipulate_search_path(self, search_path: "ConfigSearchPath") -> None:
        """Prepend `$RUNPLAN_CONF`, then `./conf`, when our conf folder is the primary one."""
        ours = str(CONF_DIR)
        if not any(part.provider == "main" and part.path == ours for part in search_path.get_path()):
            return
        for folder in reversed(user_conf_dirs()):
            scheme = RunplanConfSource.scheme() if folder.named else WorkingFolderSource.scheme()
            search_path.prepend(provider="user", path=f"{scheme}://{folder.path}", anchor="main")
