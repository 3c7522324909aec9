"""What earlier logs taught, ready to be asked about any run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from runplan.estimate import steps
from runplan.estimate.evaluation.learnt import Evaluations
from runplan.estimate.logs.figures import cleaned
from runplan.estimate.logs.other_trainers import heard_by
from runplan.estimate.logs.repeats import newest_alike
from runplan.estimate.logs.settings import same_dataset, trains_adapters
from runplan.estimate.memory.host_logs import HostSeen, formula_gib, host_seen, most_host_memory
from runplan.estimate.memory.learnt import MemoryLearnt, learn_memory
from runplan.estimate.memory.nvidia_smi import Rows
from runplan.estimate.memory.ran_out import batches_that_ran_out, least
from runplan.estimate.memory.tried import Tried
from runplan.estimate.speed.lengths import confirmed, guessed
from runplan.estimate.speed.observation import Observation, batches_of, observe, placed
from runplan.estimate.speed.posterior import Posterior, fit
from runplan.estimate.wall_time import overheads
from runplan.estimate.workload import TRL, Gpu, Workload
from runplan.facts import Architecture, Lengths
from runplan.priors.evaluated import PriorCell
from runplan.priors.record import PriorRun

_NO_GPU = Gpu("unknown", 80.0, 2000.0, 300.0, 20.0)
"""Stands for the GPU of a log that names none, until a plan puts it on its own (`placed`)."""


@dataclass(frozen=True)
class Calibration:
    """What the logs taught, ready to be asked."""

    priors: tuple[PriorRun, ...]
    gpus: Mapping[str, Gpu]
    models: Mapping[str, Architecture]
    repeated: int = 0
    """Logs that repeat newer ones and are not looked at."""
    cells: tuple[PriorCell, ...] = ()
    """Earlier evaluations."""
    _fits: dict[object, Posterior] = field(default_factory=dict, repr=False, compare=False)
    _overheads: dict[tuple[bool, str], overheads.Overheads] = field(default_factory=dict, repr=False, compare=False)
    _memory: dict[object, MemoryLearnt] = field(default_factory=dict, repr=False, compare=False)

    def overheads(self, gpu: Gpu, trainer: str = "torchtune") -> overheads.Overheads:
        """Start-up, first step and checkpoints, from the logs of GPUs, or from those of processors.

        Those of the same trainer count alone.
        """
        key = (_is_gpu(gpu), trainer)
        found = self._overheads.get(key)
        if found is None:
            found = self._overheads[key] = overheads.learn_overheads(self._alike(*key), self.models)
        return found

    def memory(self, w: Workload) -> MemoryLearnt:
        """What the logs say about memory beyond the formulas, taken as `overheads` takes them.

        Unpacked logs without torch's own figures have the lengths of the workload's dataset, if they name it.
        """
        gpu, trainer = key = (_is_gpu(w.gpu), w.trainer)
        rows = Rows(w.lengths, w.dataset)
        remembered = (*key, rows if self._rows_tell else None)
        found = self._memory.get(remembered)
        if found is None:
            seen = [item for item in self._seen if (_trainer(item.run), _is_gpu(item.step.gpu)) == (trainer, gpu)]
            ran_out = [one for one in self._ran_out if _trainer(one.run) == trainer] if gpu else ()
            alike = [run for run in self._alike(*key) if trains_adapters(run)]
            found = learn_memory(alike, seen, self.models, self.gpus, ran_out, rows)
            self._memory[remembered] = found
        return found

    def _alike(self, gpu: bool, trainer: str) -> list[PriorRun]:
        """Logs of GPUs or of processors, of one trainer."""
        alike = [run for run in self.priors if _trainer(run) == trainer]
        return [run for run in alike if (run.gpu or "").startswith("cpu") != gpu]

    @cached_property
    def _rows_tell(self) -> bool:
        """Whether any unpacked log says something of memory that the lengths of its rows explain."""
        return any((run.process_peak_gib or run.peak_memory_gib) and not run.packed for run in self.priors)

    def speed(
        self, gpu: Gpu, lengths: Lengths, dataset: str = "", trainer: str = "torchtune", version: str = ""
    ) -> Posterior:
        """What the logs say about step times on a GPU type; logs of other trainers say less.

        Logs that do not tell how long their batches are, are taken to have `lengths`: those of `dataset` nearly for
        sure, others perhaps.
        """
        key = (gpu, (lengths, dataset) if self._guesses else None, trainer, version)
        found = self._fits.get(key)
        if found is None:
            alike = [item for item in self._seen if not item.gpu_known or _is_gpu(item.step.gpu) == _is_gpu(gpu)]
            alike = [heard_by(item, trainer, version) for item in alike]
            seen = [self._with_lengths(item, gpu, lengths, dataset) for item in alike]
            found = self._fits[key] = fit([item for item in seen if item is not None], gpu)
        return found

    def ran_out(self, w: Workload, accumulation: int) -> Tried | None:
        """The smallest batch that a log says to have run out of memory where the workload needs as much or more."""
        return least(w, accumulation, self._ran_out) if self._ran_out else None

    def host_memory_gib(self, w: Workload) -> tuple[float, str]:
        """Host memory a training job needs (`--mem`), in GiB; and which log says that it is more than reckoned."""
        formula = formula_gib(w)
        seen = most_host_memory(w, self._host_seen)
        return (formula, "") if seen is None or seen.needed_gib <= formula else (seen.needed_gib, seen.described())

    @cached_property
    def evaluations(self) -> Evaluations:
        """What earlier evaluations say."""
        return Evaluations(self.cells, self.models, self.gpus)

    @cached_property
    def _host_seen(self) -> tuple[HostSeen, ...]:
        return host_seen(filter(trains_adapters, self.priors), self.models)

    @cached_property
    def _ran_out(self) -> tuple[Tried, ...]:
        return batches_that_ran_out(filter(trains_adapters, self.priors), self.models, self.gpus)

    @cached_property
    def _guesses(self) -> bool:
        """Whether any log leaves its rows' lengths open, or tells them but roughly."""
        return any(not item.tokens_known or item.tokens_sigma for item in self._seen)

    @cached_property
    def _seen(self) -> tuple[Observation, ...]:
        """All logs that measure speed; the GPU of those that name none is still open."""
        return tuple(item for item in self._observed if isinstance(item, Observation))

    @cached_property
    def silent(self) -> Counter[str]:
        """Why logs say nothing about speed, and how many."""
        return Counter(item for item in self._observed if isinstance(item, str))

    @cached_property
    def _observed(self) -> tuple[Observation | str, ...]:
        return tuple(observe(run, self.models, self.gpus, _NO_GPU) for run in self.priors)

    def _with_lengths(self, seen: Observation, gpu: Gpu, lengths: Lengths, dataset: str) -> Observation | None:
        if not seen.gpu_known:
            seen = placed(seen, gpu, self.gpus)
        elif not seen.step.gpu.cores and gpu.cores:
            # A user's jobs on processors ask for the same cores, as far as logs do not say otherwise.
            seen = replace(seen, step=replace(seen.step, gpu=replace(seen.step.gpu, cores=gpu.cores)))
        certain = seen.tokens_known and not seen.tokens_sigma
        named = same_dataset(seen.run, dataset)
        if certain or (seen.tokens_known and not (named and lengths.rows)):
            return seen
        if not lengths.rows:
            return None
        cut = lengths.cut(seen.run.max_seq_len) if seen.run.max_seq_len else lengths
        tokens = steps.padded_length(cut, seen.step.batch * (1 if seen.step.trainer == TRL else seen.step.gpus))
        if named and not _is_gpu(gpu):
            varied = steps.new_lengths(cut, seen.step.batch, batches_of(seen.run))
            seen = replace(seen, step=replace(seen.step, varied=varied))
        return confirmed(seen, tokens) if seen.tokens_known else guessed(seen, tokens, dataset)


def _trainer(run: PriorRun) -> str:
    """Whose memory and start-up a log shows; a log that does not say is taken for torchtune's."""
    return run.trainer or "torchtune"


def _is_gpu(gpu: Gpu) -> bool:
    """Whether it is a GPU at all: what a processor needs for a step says nothing about one, nor the other way round."""
    return gpu.name != "cpu"


def calibrate(priors: Sequence[PriorRun], gpus: Mapping[str, Gpu], models: Mapping[str, Architecture]) -> Calibration:
    """What the logs teach; cheap, the work is done when a GPU type is first asked about.

    Args:
        priors: earlier runs; those of unknown models or without a speed teach nothing and are left out.
        gpus: GPU types by the names logs use.
        models: architectures by the names logs use.
    """
    kept = newest_alike(priors)
    return Calibration(tuple(map(cleaned, kept)), dict(gpus), dict(models), len(priors) - len(kept))
