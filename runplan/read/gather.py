"""Every distinct model, dataset, task and tokenizer of a sweep, read once, into `Facts`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache as memoized
from functools import cached_property
from pathlib import Path
from typing import Any

from runplan import tiny
from runplan.config import Config
from runplan.environment import key_of
from runplan.errors import ConfigError, Problem, StoreError
from runplan.facts import (
    CREATE_DATASET,
    DatasetFacts,
    Facts,
    Finding,
    LengthKey,
    Lengths,
    ModelFacts,
    Place,
    Status,
    TaskFacts,
)
from runplan.locate import dataset_path, dataset_paths, model_path, place_of
from runplan.paths import absolute
from runplan.plan import TO_BE_MADE, Composed
from runplan.progress import counted
from runplan.read import lengths as token_lengths
from runplan.read.cache import Cache, file_identity
from runplan.read.dataset import read_dataset, row_texts, settings
from runplan.read.disk import read_disk
from runplan.read.environment import read_environment
from runplan.read.hf_config import configured_architecture
from runplan.read.makers import GENERATORS, Maker, maker_of, short_hash
from runplan.read.model import read_model
from runplan.read.rows import read_rows
from runplan.read.task import read_task
from runplan.read.trainer import read_trainer

OTHER_THAN_ASKED = "it was there already, and is not what dataset.create=true would make with these settings"

IMAGINED = "not there; sized as the data that dataset.create=true would make"
WILL_BE_MADE = Finding(Status.missing, TO_BE_MADE, "made when this plan is written")


def gather_facts(composed: Sequence[Composed], cwd: Path, cache_dir: Path | None, *, may_create: bool = True) -> Facts:
    """Everything the runs of a sweep need to know about this machine; each distinct thing is read once.

    What is missing and has `create=true` is made. With `may_create=False` (a preview) nothing is written, not even
    what is remembered: such a thing is made in a temporary folder, read there, and comes back as missing.

    Args:
        composed: the sweep, at least one combination.
        cwd: relative paths start here.
        cache_dir: where answers about unchanged files are kept; None = nowhere.
        may_create: False writes nothing.

    Raises:
        ConfigError: what is to be made is impossible as configured.
        StoreError: it cannot be written.
    """
    with ExitStack() as stack:
        reader = _Reader(cwd, cache_dir, may_create, stack)
        for one in counted(composed, "looking for what {} runs need"):
            reader.read(one.config)
        first = composed[0].config
        trainers = {name: read_trainer(name) for name in dict.fromkeys(one.config.trainer.name for one in composed)}
        sites = {key_of(one.config.site): one.config.site for one in composed}
        activated = {key: read_environment(site, cwd) for key, site in sites.items()}
        return Facts(
            models=reader.models,
            datasets=reader.datasets,
            lengths=reader.lengths,
            tasks=reader.tasks,
            trainer=trainers[first.trainer.name],
            disk=read_disk(absolute(first.site.output_root, cwd)),
            places=tuple(reader.places),
            trainers=trainers,
            environments={key: found for key, found in activated.items() if found is not None},
        )


@dataclass
class _Reader:
    """What was read so far."""

    cwd: Path
    cache_dir: Path | None
    may_create: bool
    stack: ExitStack
    """Removes what was made for a preview."""
    models: dict[str, ModelFacts] = field(default_factory=dict)
    datasets: dict[str, DatasetFacts] = field(default_factory=dict)
    lengths: dict[LengthKey, Lengths] = field(default_factory=dict)
    tasks: dict[str, TaskFacts] = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)
    stand_ins: dict[str, Path] = field(default_factory=dict)
    """Path → where a preview made the thing instead."""
    made: set[Path] = field(default_factory=set)
    """What this call made in its place."""
    texts: dict[str, dict[str, list[tuple[str, ...]]]] = field(default_factory=dict)
    """Dataset key → role → texts of its usable rows."""
    counters: dict[str, Callable[[Sequence[str]], Sequence[int]] | None] = field(default_factory=dict)
    exists: Callable[[str], bool] = field(default_factory=lambda: memoized(os.path.exists))

    @cached_property
    def cache(self) -> Cache:
        """Answers kept between calls; a preview only looks."""
        return Cache(self.cache_dir, self.may_create, self._identity)

    def read(self, config: Config) -> None:
        """Read what this combination needs and no earlier one did."""
        place = place_of(config, self.cwd, self.exists)
        self.places.append(place)
        if place.model not in self.models:
            self.models[place.model] = self._model(model_path(config, self.cwd), config)
        if place.dataset not in self.datasets:
            self.datasets[place.dataset] = self._dataset(config)
        if place.script is not None and place.script not in self.tasks:
            evaluation = config.evaluation
            where = f"it is looked for in {config.site.tasks_dir}/{evaluation.name}/"
            fix = f"write it, set evaluation.script, or choose evaluation=none; {where}"
            self.tasks[place.script] = read_task(Path(place.script), evaluation.name, evaluation.tasks, fix)
        for key in place.lengths.values():
            if key not in self.lengths and key.split in self.datasets[place.dataset].splits:
                self.lengths[key] = self._lengths(key, config)

    def _model(self, path: Path, config: Config) -> ModelFacts:
        if config.model.create and not path.exists():
            if config.model.name != "tiny":
                what = f"model.create=true makes model=tiny only, not {config.model.name}"
                raise ConfigError([Problem(what, "model.create", "drop it, or use model=tiny")])
            shape = configured_architecture(config.model) or tiny.TINY
            self._make(path, lambda target: tiny.create(target, shape))
        facts = read_model(self._real(str(path)), config.model, self.cache, config.trainer.name)
        if str(path) not in self.stand_ins:
            return facts
        return replace(facts, path=str(path), status=Status.missing, findings=(WILL_BE_MADE, *facts.findings))

    def _dataset(self, config: Config) -> DatasetFacts:
        path = dataset_path(config, self.cwd, self.exists)
        if path is None:
            missing = Finding(Status.missing, "neither dataset.path nor dataset.file is set", "set dataset.path")
            return DatasetFacts("", Status.missing, type=config.dataset.type.value, findings=(missing,))
        maker = maker_of(config.dataset, self.cwd)
        if (maker or config.dataset.create) and not path.exists() and str(path) not in self.stand_ins:
            self._make_dataset(path, config, maker)
        facts = read_dataset(self._real(str(path)), config.dataset, self._fix(config), self.cache)
        facts = replace(facts, findings=(*facts.findings, *self._origin(path, config, maker)))
        if str(path) not in self.stand_ins:
            return facts
        absent = WILL_BE_MADE if config.dataset.create else Finding(Status.missing, IMAGINED, self._fix(config))
        return replace(facts, path=str(path), status=Status.missing, findings=(absent, *facts.findings))

    def _origin(self, path: Path, config: Config, maker: Maker | None) -> list[Finding]:
        """What is known of data that runplan makes: what they are parts of, or that they are others than asked for."""
        real = self._real(str(path))
        if maker is None or not (config.dataset.create or maker.made_of) or not (maker.can_tell and real.exists()):
            return []
        made_now = path in self.made or str(path) in self.stand_ins
        if made_now and not maker.made_of:
            return []
        same, digest = self.cache.remembered(
            "made_of", maker.asked, [real, *maker.files], lambda: [made_now or maker.is_made(real), short_hash(real)]
        )
        if not same:
            return [Finding(Status.ok, OTHER_THAN_ASKED)]
        return [Finding(Status.ok, f"{maker.made_of}, sha256 {digest}…")] if maker.made_of else []

    def _make_dataset(self, path: Path, config: Config, maker: Maker | None) -> None:
        if maker is None:
            what = f"dataset.create=true cannot make {path}: dataset.generator is {config.dataset.generator}"
            fix = (
                f"drop it, name rows with dataset.source, or use a generator that runplan has: {', '.join(GENERATORS)}"
            )
            raise ConfigError([Problem(what, "dataset.create", fix)])
        self._make(path, maker.create, keep=config.dataset.create)

    def _make(self, path: Path, create: Callable[[Path], None], *, keep: bool = True) -> None:
        """Make a thing in its place; in a folder that goes away when nothing may be written or nobody asked for it."""
        if not (keep and self.may_create):
            from tempfile import TemporaryDirectory  # noqa: PLC0415 - start-up time

            folder = self.stack.enter_context(TemporaryDirectory(prefix="runplan-preview-"))
            self.stand_ins[str(path)] = Path(folder) / path.name
        else:
            self.made.add(path)
        try:
            create(self._real(str(path)))
        except StoreError:
            if not path.exists():  # otherwise another plan made the same in the meantime
                raise

    def _fix(self, config: Config) -> str:
        """What to do about a dataset that is not there."""
        if maker_of(config.dataset, self.cwd):
            return CREATE_DATASET
        looked = dataset_paths(config, self.cwd)
        places = f"; looked for it at {', '.join(map(str, looked))}" if len(looked) > 1 else ""
        return f"set dataset.path to the file{places}"

    def _lengths(self, key: LengthKey, config: Config) -> Lengths:
        model, dataset = self.models[key.model], self.datasets[key.dataset]
        names = [
            name for name in (model.tokenizer, *(("vocab.json", "merges.txt") if model.vocab_json else ())) if name
        ]
        files = [self._real(dataset.path), *(self._real(model.path) / name for name in names)]
        family = token_lengths.family_of(model.architecture)
        question = [key.split, key.type, key.system_prompt, key.prompt, family, *settings(config.dataset)]
        question += [] if key.trainer == "torchtune" else [key.trainer]
        kept = self.cache.remembered(
            "lengths", question, files, lambda: token_lengths.as_json(self._measure(key, config, family))
        )
        return token_lengths.from_json(kept)

    def _measure(self, key: LengthKey, config: Config, family: str) -> Lengths:
        if key.dataset not in self.texts:
            self.texts[key.dataset] = self._read_texts(key, config)
        if key.model not in self.counters:
            model = self.models[key.model]
            found = replace(model, path=str(self._real(model.path)))
            self.counters[key.model] = token_lengths.counter(found, key.trainer)
        rows, count = self.texts[key.dataset].get(key.split, []), self.counters[key.model]
        return (
            token_lengths.guess(rows, key, family) if count is None else token_lengths.measure(rows, key, family, count)
        )

    def _read_texts(self, key: LengthKey, config: Config) -> dict[str, list[tuple[str, ...]]]:
        found = read_rows(self._real(self.datasets[key.dataset].path), config.dataset)
        if isinstance(found, Finding):
            return {}
        return {
            role: [texts for row in rows if not isinstance(texts := row_texts(row, config.dataset), str)]
            for role, rows in found.splits.items()
        }

    def _real(self, path: str) -> Path:
        return self.stand_ins.get(path, Path(path))

    def _identity(self, path: str | os.PathLike[str]) -> list[Any]:
        """What tells that a file is the same; of a stand-in its place and content, since it is made anew each time."""
        for place, stand_in in self.stand_ins.items():
            if Path(path).is_relative_to(stand_in) and Path(path).is_file():
                relative = Path(path).relative_to(stand_in)
                return [str(Path(place) / relative), hashlib.sha256(Path(path).read_bytes()).hexdigest()]
        return file_identity(path)
