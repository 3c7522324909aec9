"""How far every estimator is off, on all measured runs at hand, each left out in turn.

    python benchmarks/accuracy.py                    # the table
    python benchmarks/accuracy.py --fleet h200-141   # of one GPU type

Each run is left out in turn: the estimators are given the logs of 0, 1, 3 or 10 other runs (as `runplan priors` reads
them) and asked about it. `same` logs are of the same GPU type, `other` of all others; some draws of each number, so
that no lucky log decides, and the same runs asked about with every number, so that rows can be compared.

Some runs were in sight when constants of the estimator were chosen: --each marks them with `*`. Their rows without any
log (0) show how well that worked, not how well others will be met.

An error is |estimated / measured - 1|. `covers` is the part of runs that stayed below p95, `p95/p50` the median width.
A batch is judged where several were tried: it must not be one that ran out of memory, nor less than half of one that
ran.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from unittest import mock

from cases import FOUND, GPUS, Case, cases, log_names
from rivals import ESTIMATORS, Answer

from runplan.estimate.speed import gpu_constants

COUNTS = (0, 1, 3, 10)
ORDERS = 6
PUBLISHED = "published"
QUANTITIES = ("allocated", "reserved", "process", "s/step", "wall")


class Key(NamedTuple):
    """One row of the table."""

    fleet: str
    quantity: str
    estimator: str
    logs: str


@dataclass
class Score:
    """Errors of one estimator in one quantity."""

    errors: list[float] = field(default_factory=list)
    """Estimated over measured, less 1."""
    covered: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)

    def add(self, answer: tuple[float, float | None], measured: float) -> None:
        """Count one answer."""
        p50, p95 = answer
        self.errors.append(p50 / measured - 1)
        if p95 is not None:
            self.covered.append(measured <= p95)
            self.widths.append(p95 / p50)

    def include(self, other: Score) -> None:
        """Count all answers of another one, too."""
        self.errors += other.errors
        self.covered += other.covered
        self.widths += other.widths

    def line(self) -> str:
        """Number of answers, median, mean and worst error, coverage and width."""
        sizes = [abs(error) for error in self.errors]
        worst = max(self.errors, key=abs)
        figures = f"{len(sizes):5} {statistics.median(sizes):8.1%} {statistics.fmean(sizes):8.1%} {worst:+8.1%}"
        if self.covered:
            figures += f" {statistics.fmean(self.covered):8.0%} {statistics.median(self.widths):8.2f}"
        return figures


def replay(fleets: dict[str, list[Case]], orders: int) -> dict[Key, Score]:
    """Every estimator's errors with every draw of logs."""
    scores: dict[Key, Score] = defaultdict(Score)
    models = log_names()
    for fleet, members in fleets.items():
        types = {_type(case) for case in members}
        others = [case for some in fleets.values() for case in some if _type(case) not in types]
        for n, where, history, target in _moments(members, others, orders):
            logs = f"{n}" if n == 0 else f"{n} {where}"
            priors = [case.prior for case in history]
            for name, estimate in ESTIMATORS.items():
                answer = estimate(target.workload, priors, GPUS, models)
                _count(scores, (fleet, name, logs), answer, target)
    return scores


def _type(case: Case) -> tuple[str, str]:
    """What a log has to share with a run to be one of the same GPU."""
    return case.workload.gpu.name, case.workload.trainer


def _count(scores: dict[Key, Score], key: tuple[str, str, str], answer: Answer, target: Case) -> None:
    fleet, name, logs = key
    for quantity, measured in target.measured.items():
        if quantity in answer:
            scores[Key(fleet, quantity, name, logs)].add(answer[quantity], measured)


def _moments(
    members: Sequence[Case], others: Sequence[Case], orders: int
) -> list[tuple[int, str, Sequence[Case], Case]]:
    """(logs, same or other GPU, history, run asked about); every run is asked about with every number of logs."""
    found: list[tuple[int, str, Sequence[Case], Case]] = [(0, "", (), target) for target in members]
    same, other = random.Random(14), random.Random(14)
    for target in members:
        rest = [case for case in members if case is not target]
        for n in COUNTS[1:]:
            if n <= len(rest):
                found += [(n, "same", same.sample(rest, n), target) for _ in range(orders)]
            if n <= len(others):
                found += [(n, "other", other.sample(others, n), target) for _ in range(orders)]
    return found


def whole(scores: dict[Key, Score]) -> dict[Key, Score]:
    """Scores of all published runs of a trainer's layers, whatever their GPU."""
    found: dict[Key, Score] = defaultdict(Score)
    for key, score in scores.items():
        for kind in (PUBLISHED, FOUND):
            if key.fleet.startswith(kind):
                layers = "transformers" if key.fleet.endswith("transformers") else "torchtune"
                found[key._replace(fleet=f"all {kind} of {layers}")].include(score)
    return found


def batches(fleets: dict[str, list[Case]]) -> list[str]:
    """For every setting of which batches were tried: the largest that ran, and what each estimator would take.

    Asked before any run, with the rows that the largest has seen.
    """
    lines = []
    for fleet, members in fleets.items():
        edges: dict[object, list[Case]] = defaultdict(list)
        for case in members:
            w = case.workload
            setting = (w.model_name, w.adapter, w.gpus, w.max_seq_len, w.packed, w.activation_checkpointing, w.compile)
            edges[setting].append(case)
        for some in edges.values():
            tried = sorted({case.workload.batch_size or 0 for case in some})
            broke = min((case.workload.batch_size or 0 for case in some if case.state == "oom"), default=None)
            ran = max((case for case in some if case.state == "ok"), key=_batch, default=None)
            if not fleet.startswith("cpu") and ran is not None and (broke or len(tried) > TRIED):
                seen = f"{broke} ran out of memory" if broke else "none ran out of memory"
                lines.append(f"{fleet} {ran.name}: {_batch(ran)} ran, {seen}; {', '.join(_chosen(ran, broke))}")
    return lines


TRIED = 2
"""Of settings none of whose batches ran out of memory, more than so many were tried."""


def _batch(case: Case) -> int:
    return case.workload.batch_size or 0


def _chosen(ran: Case, broke: int | None) -> list[str]:
    """The power of two that every estimator would take, beside the largest batch that ran and one that did not."""
    told = []
    for name, estimate in ESTIMATORS.items():
        answer = estimate(ran.workload, [], GPUS, log_names())
        if "batch" in answer:
            largest = int(answer["batch"][0])
            chosen = 2 ** (largest.bit_length() - 1) if largest else 0
            fits = "runs" if chosen <= _batch(ran) else "OUT OF MEMORY" if broke and chosen >= broke else "never tried"
            told.append(f"{name} {chosen} ({fits})")
    return told


def show(scores: dict[Key, Score]) -> None:
    """Print the table, one part a GPU type and quantity."""
    names, quantities = list(ESTIMATORS), list(QUANTITIES)
    rank = {"": -1, "same": 0, "other": 1}

    def place(key: Key) -> tuple[object, ...]:
        count, _, where = key.logs.partition(" ")
        return key.fleet, quantities.index(key.quantity), rank[where], int(count), names.index(key.estimator)

    previous: tuple[str, str] | None = None
    for key in sorted(scores, key=place):
        if (key.fleet, key.quantity) != previous:
            previous = key.fleet, key.quantity
            print(f"\n{key.fleet}: {key.quantity}")
            heads = ("runs", "median", "mean", "worst", "covers", "p95/p50")
            print(f"{'logs':10}{'estimator':22}{heads[0]:>5}" + "".join(f"{head:>9}" for head in heads[1:]))
        print(f"{key.logs:10}{key.estimator:22}{scores[key].line()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fleet", help="only runs of GPU types whose name begins so")
    parser.add_argument("--orders", type=int, default=ORDERS, help="draws of the logs that are given")
    parser.add_argument("--each", action="store_true", help="every run without any log, measured and estimated")
    arguments = parser.parse_args()
    fleets: dict[str, list[Case]] = defaultdict(list)
    for case in cases():
        fleets[case.fleet].append(case)
    wanted = {name: some for name, some in fleets.items() if name.startswith(arguments.fleet or "")}
    if not wanted:
        sys.exit(f"no runs of {arguments.fleet}; there are {', '.join(fleets)}")
    print(", ".join(f"{name}: {len(some)} runs" for name, some in wanted.items()))
    if arguments.each:
        each(wanted)
    scores = replay(fleets, arguments.orders)
    show(
        {key: score for key, score in scores.items() if key.fleet in wanted}
        | ({} if arguments.fleet else whole(scores))
    )
    print("\nbatch: the largest power of two below what would fit")
    print("\n".join(batches(wanted) or ["of no setting several batches were tried"]))


def each(fleets: dict[str, list[Case]]) -> None:
    """Every run, measured and as `calibrated` estimates it without any log; `*`: it helped to choose a constant."""
    for case in (case for some in fleets.values() for case in some):
        answer = ESTIMATORS["calibrated"](case.workload, [], GPUS, log_names())
        told = [
            f"{name}{'*' * (name in case.taught)} {measured:.3g} est. {answer[name][0]:.3g} "
            f"({answer[name][0] / measured - 1:+.1%})"
            for name, measured in case.measured.items()
        ]
        if (unknown := without_own_share(case)) is not None:
            told.append(
                f"s/step were its GPU type unknown {unknown:.3g} ({unknown / case.measured['s/step'] - 1:+.1%})"
            )
        print(f"{case.name:44} {case.state:4} {'; '.join(told)}")


def without_own_share(case: Case) -> float | None:
    """Seconds a step as estimated without what its GPU type itself taught the prior; None where it taught nothing."""
    kind = case.workload.gpu.name.split("-", 1)[0]
    shares = dict(gpu_constants.MATRIX_SHARE)
    if kind not in shares or "s/step" not in case.measured:
        return None
    del shares[kind]
    with mock.patch.object(gpu_constants, "MATRIX_SHARE", shares):
        return ESTIMATORS["calibrated"](case.workload, [], GPUS, log_names())["s/step"][0]


if __name__ == "__main__":
    main()
