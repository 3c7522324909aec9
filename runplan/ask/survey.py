"""What there is to choose from, on this machine and in the conf folders; and what verification says of an answer."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from runplan import app, locate
from runplan.ask.known import Known, Thing
from runplan.ask.lines import Answer
from runplan.ask.settings import SETTINGS
from runplan.catalogue import options
from runplan.config import Config
from runplan.paths import absolute, conf_dirs, user_conf_dirs
from runplan.plan import Check
from runplan.random_splits import JSON_LINES, SEPARATED
from runplan.read.environment import installed_here, read_environment
from runplan.suggest import by_size
from runplan.sweep.runs import Sweep
from runplan.units import short_number
from runplan.verify.needs import size_text

GROUPS = ("site", "model", "trainer", "dataset", "resources", "evaluation")
VERIFIED = frozenset({"model", "dataset", "evaluation"})
READERS = {"instruct": "json", "chat": "chat", "text": "text"}
"""Type of rows → option of `dataset` that reads any file of such rows."""
DATA_FILES = frozenset({".json", *JSON_LINES, *SEPARATED})
MOST_FILES = 40
HEAD_BYTES = 1 << 16

_VALUES = (*(setting.key for setting in SETTINGS), "validation", "controls", "resources.gpus")


@dataclass(frozen=True)
class Survey:
    """Where to look: the folder the interview was started in, and one more folder of configs."""

    cwd: Path
    config_dir: Path | None = None

    sweeps: dict[tuple[str, ...], Sweep] = field(default_factory=dict)
    """What was composed already; config files are taken to stay as they are while questions are asked."""

    def composed(self, lines: Sequence[str]) -> Sweep:
        """Every run that override lines name; the same lines are composed once.

        Raises:
            ConfigError: everything that is wrong with them.
        """
        key = tuple(lines)
        if key not in self.sweeps:
            self.sweeps[key] = app.compose(lines, self.config_dir)
        return self.sweeps[key]

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of configuration, first wins."""
        return (*((self.config_dir,) if self.config_dir else ()), *conf_dirs())

    def known(self, lines: Sequence[str]) -> Known:
        """Choices and defaults, given override lines that are fixed already.

        Raises:
            ConfigError: the lines, or a config file, are wrong.
        """
        sweep = self.composed(lines)
        first = sweep.composed[0]
        config = first.config
        chosen = {group: option for group in GROUPS if (option := first.choices.get(group)) is not None}
        own = [folder for folder in (self.config_dir, *(conf.path for conf in user_conf_dirs())) if folder]
        own_sites = [*options(own, "site")]
        return Known(
            chosen=chosen,
            values=dict(_values(config)),
            place=f"{config.site.name}; models in {config.site.models_dir}, groups in {config.site.output_root}",
            sites=tuple(_sites(options(self.folders, "site"), own_sites)),
            own_sites=() if chosen.get("site") in own_sites else tuple(own_sites),
            models=tuple(self._models(config)),
            datasets=tuple(self._datasets(config, chosen.get("dataset"))),
            evaluations=tuple(self._evaluations(config)),
            gpus=tuple(_gpus(options(self.folders, "resources"))),
            trainers=tuple(self._trainers(config)),
            taken=frozenset(path.name for path in _entries(absolute(config.site.output_root, self.cwd))),
            experiment=sweep.experiment or "",
            can_submit=shutil.which("sbatch") is not None,
        )

    def checks(self, lines: Sequence[str]) -> tuple[Check, ...]:
        """What verification says of models, datasets and evaluations; nothing is written.

        Raises:
            ConfigError: a line is wrong.
        """
        from runplan.paths import cache_dir  # noqa: PLC0415 - start-up time
        from runplan.read.gather import gather_facts  # noqa: PLC0415 - same
        from runplan.verify.needs import check_things  # noqa: PLC0415 - same

        composed = self.composed(lines).composed
        facts = gather_facts(composed, self.cwd, cache_dir(), may_create=False)
        return tuple(check for check in check_things(composed, facts) if check.kind in VERIFIED)

    def with_files(self, known: Known, datasets: Answer) -> Known:
        """The same, with the kind of rows in data files that were named by path."""
        new = [path for path in datasets if "/" in path and known.thing("dataset", path) is None]
        things = [_data_file(path, absolute(path, self.cwd)) for path in new]
        return replace(known, datasets=(*known.datasets, *things)) if things else known

    def _models(self, config: Config) -> Iterator[Thing]:
        """What is in `site.models_dir` first: known models, then other folders; then what could be downloaded."""
        root = absolute(config.site.models_dir, self.cwd)
        folders = {path.name: path for path in _entries(root) if (path / "config.json").is_file()}
        absent: list[Thing] = []
        for name, keys in options(self.folders, "model").items():
            if name == "hf":
                continue
            own = keys.get("path")
            place = Path(own) if isinstance(own, str) and "$" not in own else folders.pop(str(keys.get("folder")), None)
            label = str(keys.get("full_name", ""))
            if place is not None and place.is_dir():
                yield Thing(name, f"{label}, on disk", str(place))
            else:
                can_make = ", runplan can make it" if name == "tiny" else ""
                absent.append(Thing(name, f"{label}, not there yet{can_make}"))
        for path in folders.values():
            yield Thing(self._shown(path), "on disk", self._shown(path))
        yield from absent

    def _datasets(self, config: Config, chosen: str | None) -> Iterator[Thing]:
        listed: set[Path] = set()
        for name, keys in options(self.folders, "dataset").items():
            if name in READERS.values():
                continue
            own = keys.get("path")
            place = absolute(own, self.cwd) if isinstance(own, str) and "$" not in own else None
            if name == chosen:
                place = locate.dataset_path(config, self.cwd)
            kind = READERS.get(str(keys.get("type")), "json")
            is_there = place is not None and place.is_file()
            listed |= {place} if place else set()
            detail = f"{self._shown(place)}, {size_text(place.stat().st_size)}" if place and is_there else ""
            if not is_there:
                detail = "not there yet, runplan can make it" if keys.get("generator") else "not there yet"
            yield Thing(name, detail, self._shown(place) if place and is_there else "", kind)
        for path in self._data_files(config):
            if path not in listed:
                yield _data_file(self._shown(path), path)

    def _data_files(self, config: Config) -> list[Path]:
        tasks, data = (absolute(each, self.cwd) for each in (config.site.tasks_dir, config.site.data_dir))
        folders = [*sorted(tasks.glob("*/input")), data, *sorted(data.glob("*"))]
        found = [path for folder in folders for path in _entries(folder)]
        return [path for path in found if path.suffix in DATA_FILES and path.is_file()][:MOST_FILES]

    def _evaluations(self, config: Config) -> Iterator[Thing]:
        named = [name for name in options(self.folders, "evaluation") if name != "script"]
        yield from (Thing(name) for name in named)
        for path in sorted(absolute(config.site.tasks_dir, self.cwd).glob("*/inspect.py")):
            if path.parent.name not in named:
                yield Thing(self._shown(path), "Inspect file")

    def _trainers(self, config: Config) -> Iterator[Thing]:
        """Those that are installed where jobs look for them: in what the site activates, else here."""
        activated = read_environment(config.site, self.cwd)
        found = installed_here() if activated is None else activated.versions or {}
        yield from (Thing(name, found[name]) for name in options(self.folders, "trainer") if name in found)

    def _shown(self, path: Path) -> str:
        """A path as short as it can be: relative to the working folder where it is below, else absolute."""
        try:
            return f"./{path.relative_to(self.cwd)}"
        except ValueError:
            return str(path)


def _entries(folder: Path) -> list[Path]:
    """What is visible in a folder, in order; nothing where it is not there or cannot be read."""
    try:
        return sorted(
            (path for path in folder.iterdir() if not path.name.startswith(".")), key=lambda path: by_size(path.name)
        )
    except OSError:
        return []


def _values(config: Config) -> Iterator[tuple[str, str]]:
    for key in _VALUES:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if isinstance(value, Enum):
            value = value.value
        if isinstance(value, bool):
            yield key, str(value).lower()
        elif isinstance(value, int | float):
            yield key, short_number(value)
        elif isinstance(value, str):
            yield key, value


def _sites(found: dict[str, dict[str, Any]], own: Iterable[str]) -> Iterator[Thing]:
    """The user's own first."""
    for name in dict.fromkeys([*own, *found]):
        keys = found.get(name, {})
        where = keys.get("models_dir")
        yield Thing(name, f"models in {where}/" if isinstance(where, str) and "$" not in where else "")


def _gpus(found: dict[str, dict[str, Any]]) -> Iterator[Thing]:
    for name, keys in found.items():
        memory = keys.get("gpu_memory_gib")
        yield Thing(name, f"{memory:g} GiB" if isinstance(memory, int | float) else "")


def _data_file(name: str, path: Path) -> Thing:
    """A data file with the option that reads it, as its beginning tells; one that cannot be read is said later."""
    try:
        with path.open("rb") as file:
            head, size = file.read(HEAD_BYTES), path.stat().st_size
    except OSError:
        return Thing(name, path=name, kind="json")
    has_splits = _has_splits(path.suffix, head)
    detail = size_text(size) + ("" if has_splits else ", without splits: they are made at random")
    return Thing(name, detail, name, _reader(head), has_splits)


def _reader(head: bytes) -> str:
    """The option that reads a data file, by the columns its beginning names."""
    columns = {match.decode() for match in re.findall(rb'"(input|output|messages|text)"\s*:', head)}
    if "messages" in columns and "input" not in columns:
        return "chat"
    return "text" if columns == {"text"} else "json"


def _has_splits(suffix: str, head: bytes) -> bool:
    """Whether a data file has them, as far as its name and its beginning tell: a list has none, nor have lines."""
    if suffix != ".json" or head.lstrip().startswith(b"["):
        return False
    first = head.strip().partition(b"\n")[0]
    try:
        return not (isinstance(json.loads(first), dict) and first != head.strip())
    except ValueError:
        return True
