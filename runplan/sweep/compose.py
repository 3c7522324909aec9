"""One Hydra composition per choice of config groups, without the `hydra` node and reading each file once.

A sweep has few group choices and many scalar values. Hydra's own composition costs about 0.1 s, most of it for the
`hydra` node and for reading the same YAML again. Defaults list, merging and overrides are Hydra's own functions;
equality with a plain Hydra composition is a test, not a hope.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import create_defaults_list
from hydra.core.default_element import GroupDefault
from omegaconf import DictConfig, OmegaConf, open_dict

from runplan.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hydra.core.default_element import InputDefault
    from hydra.core.object_type import ObjectType
    from hydra.core.override_parser.types import Override
    from hydra.plugins.config_source import ConfigResult, ConfigSource


@dataclass
class Base:
    """A composed choice of groups; scalar overrides are not applied yet."""

    config: DictConfig
    choices: dict[str, str | None]
    """Config group → chosen option; Hydra's own groups left out."""
    params: dict[str, str] = field(default_factory=dict)
    """`hydra.sweeper.params` of the files it is made of."""


def _is_hydra(default: InputDefault) -> bool:
    return isinstance(default, GroupDefault) and (default.group or "").lstrip("/").startswith("hydra/")


class _ReadOnce(IConfigRepository):
    """A repository that reads each file once and takes what concerns Hydra itself out of it."""

    def __init__(self, inner: IConfigRepository, primary: str) -> None:
        self._inner = inner
        self._primary = primary
        self._found: dict[str, ConfigResult | None] = {}
        self._groups: dict[str, bool] = {}
        self.hydra: dict[str, DictConfig] = {}
        """File → its `hydra` node."""
        self.hydra_groups: dict[str, dict[str, str]] = {}
        """File → Hydra's own groups that its defaults list chooses."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _ReadOnce:
        return self

    def _read(self, config_path: str) -> ConfigResult | None:
        found = self._inner.load_config(config_path)
        if found is None or not isinstance(found.config, DictConfig):
            return found
        config = copy.deepcopy(found.config)
        found = copy.copy(found)
        found.config = config
        if config_path == self._primary or (found.header or {}).get("package") == "_global_":
            with open_dict(config):
                node = config.pop("hydra", None)
            if isinstance(node, DictConfig):
                self.hydra[config_path] = node
        ours = [default for default in found.defaults_list or [] if not _is_hydra(default)]
        self.hydra_groups[config_path] = {
            default.group.lstrip("/"): str(default.value)
            for default in found.defaults_list or []
            if isinstance(default, GroupDefault) and default.group and _is_hydra(default)
        }
        found.defaults_list = ours
        return found

    def load_config(self, config_path: str) -> ConfigResult | None:
        if config_path not in self._found:
            self._found[config_path] = self._read(config_path)
        found = self._found[config_path]
        if found is None:
            return None
        found = copy.copy(found)
        found.config = copy.deepcopy(found.config)
        return found

    def group_exists(self, config_path: str) -> bool:
        if config_path not in self._groups:
            self._groups[config_path] = self._inner.group_exists(config_path)
        return self._groups[config_path]

    def config_exists(self, config_path: str) -> bool:
        return self._inner.config_exists(config_path)

    def get_group_options(self, group_name: str, results_filter: ObjectType | None = None) -> list[str]:
        return self._inner.get_group_options(group_name, results_filter)

    def get_schema_source(self) -> ConfigSource:
        return self._inner.get_schema_source()

    def get_sources(self) -> list[ConfigSource]:
        return self._inner.get_sources()

    def initialize_sources(self, config_search_path: Any) -> None:
        self._inner.initialize_sources(config_search_path)


class Composer:
    """Composes choices of groups over one search path; each distinct choice once."""

    def __init__(self, loader: ConfigLoaderImpl, primary: str, hydra_lines: Sequence[str] | None = None) -> None:
        """Compose the config `primary`; with `hydra_lines`, along the `hydra.searchpath` of these and of `primary`."""
        self._loader = loader
        self._primary = primary
        inner: IConfigRepository = loader.repository
        if hydra_lines is not None:
            _, inner = loader._parse_overrides_and_create_caching_repo(primary, list(hydra_lines))
        self._files = _ReadOnce(inner, primary)
        self._bases: dict[tuple[str, ...], Base] = {}

    def chooses_group(self, override: Override) -> bool:
        """Whether an override chooses from a config group; by the rule of Hydra's defaults list."""
        return not isinstance(override.value(), dict) and self._files.group_exists(override.key_or_group)

    def is_global(self, override: Override) -> bool:
        """Whether a group override names a file that is written for the whole config, as experiments are."""
        if not self.chooses_group(override):
            return False
        found = self._files.load_config(f"{override.key_or_group}/{override.value()}")
        return found is not None and (found.header or {}).get("package") == "_global_"

    def base(self, overrides: Iterable[Override]) -> Base:
        """The composition of group overrides, made once; callers copy before they change it.

        Raises:
            ConfigCompositionException: as Hydra raises it.
        """
        chosen = list(overrides)
        key = tuple(str(override.input_line) for override in chosen)
        if key not in self._bases:
            self._bases[key] = self._compose(chosen)
        return self._bases[key]

    def _compose(self, overrides: list[Override]) -> Base:
        repository = CachingConfigRepository(self._files)
        found = create_defaults_list(
            repo=repository,
            config_name=self._primary,
            overrides_list=overrides,
            prepend_hydra=False,
            skip_missing=False,
        )
        config = self._loader._compose_config_from_defaults_list(defaults=found.defaults, repo=repository)
        OmegaConf.set_struct(config, value=True)
        params: dict[str, str] = {}
        groups: dict[str, str] = {}
        for default in found.defaults:
            path = str(default.config_path)
            groups |= self._files.hydra_groups.get(path, {})
            given = OmegaConf.select(self._files.hydra.get(path, OmegaConf.create()), "sweeper.params")
            params |= {str(key): str(value) for key, value in (given or {}).items()}
        refuse_hydra_groups(groups)
        return Base(config, ours(found.overrides.known_choices), params)


def refuse_hydra_groups(choices: Mapping[str, Any]) -> None:
    """Say no to another launcher or sweeper.

    Raises:
        ConfigError: `choices` holds one.
    """
    problems: list[Problem] = []
    if choices.get("hydra/launcher", "basic") != "basic":
        what = f"hydra/launcher={choices['hydra/launcher']} is not used: runplan writes first, then submits the group"
        problems.append(Problem(what, "hydra/launcher", "choose submit=sbatch, submitit or local instead"))
    if choices.get("hydra/sweeper", "runplan") != "runplan":
        what = f"hydra/sweeper={choices['hydra/sweeper']} cannot replace runplan's, which plans the sweep as a whole"
        problems.append(Problem(what, "hydra/sweeper", "drop it; choices, ranges, glob and sweep.zip are understood"))
    if problems:
        raise ConfigError(problems)


def ours(choices: Mapping[str, Any]) -> dict[str, str | None]:
    """Choices of config groups without Hydra's own."""
    return {
        str(group): None if option is None else str(option)
        for group, option in choices.items()
        if not str(group).startswith("hydra/")
    }


def apply(overrides: Iterable[Override], config: DictConfig) -> None:
    """Apply scalar overrides with Hydra's own function and typing rules, in place.

    Raises:
        ConfigCompositionException: as Hydra raises it.
    """
    ConfigLoaderImpl._apply_overrides_to_config(list(overrides), config)
