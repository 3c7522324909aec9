"""`runplan priors [DIR…] [--json] [--refresh] [--gpu NAME]`: what was learnt from each log."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runplan.arguments import Arguments
from runplan.errors import ConfigError, Problem
from runplan.paths import cache_dir
from runplan.priors.read import PriorsRead, read_priors
from runplan.priors.record import MemoryGib, PriorRun
from runplan.suggest import did_you_mean, listed
from runplan.units import short_time
from runplan.utf8 import escaped

JSON_KEYS = (
    "path", "trainer", "trainer_version", "recipe", "model", "params_b", "lora_rank", "lora_alpha", "lora_targets",
    "batch_size", "gradient_accumulation_steps", "max_seq_len", "packed", "dtype", "activation_checkpointing",
    "compile", "gpu", "num_gpus", "dataset", "epochs", "steps_done", "steps_total", "it_per_s", "s_per_step",
    "tokens_per_s",
    "startup_s", "first_step_s", "checkpoint_s", "wall_s", "peak_memory_gib", "init_memory_gib", "state", "reason",
    "oom_batch_sizes", "quantize_base", "cpus", "padded_tokens",
)  # fmt: skip
"""Keys of a record in the order they are printed: a contract; a key may be added, never renamed."""

_DEFAULT = "outputs"
_COLUMNS = ("log", "model", "rank", "batch", "seq", "gpu", "steps", "it/s", "peak GiB", "wall", "state")
_RIGHT = frozenset({"rank", "batch", "seq", "steps", "it/s", "wall"})
_GAP = "  "


def main(argv: Sequence[str] | None = None) -> int:
    """Read logs and print what each says; the exit code.

    Raises:
        ConfigError: a folder does not exist, an option is wrong, or no GPU type has that name.
    """
    try:
        options = _parser().parse_args(argv)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 2
    paths = options.paths or [_DEFAULT]
    if options.gpu is not None:
        _check_gpu(options.gpu)
    read = read_priors(
        paths,
        options.gpu,
        cache_dir(),
        Path.cwd(),
        refresh=options.refresh,
        optional=frozenset() if options.paths else frozenset({_DEFAULT}),
    )
    for warning in read.warnings:
        print(f"warning: {warning}", file=sys.stderr)  # noqa: T201 - same
    if options.json:
        sys.stdout.writelines(json_text(read.runs))
    else:
        print_table(read)
    return 0


def _check_gpu(name: str) -> None:
    from runplan.catalogue import gpus  # noqa: PLC0415 - reads conf/
    from runplan.paths import conf_dirs  # noqa: PLC0415 - same

    known = gpus(conf_dirs())
    if name not in known:
        fix = did_you_mean(name, known, f"choose among {listed(known)}")
        raise ConfigError([Problem(f"no GPU type is called {name}", "--gpu", fix)])


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(
        prog="runplan priors",
        description="Reads the logs of earlier runs and prints what was learnt from each.",
    )
    parser.add_argument("paths", nargs="*", metavar="DIR", help=f"folders, files or globs (default: {_DEFAULT})")
    parser.add_argument("--json", action="store_true", help="print a JSON list, one record a log; unknown is null")
    parser.add_argument("--refresh", action="store_true", help="read every log again, changed or not")
    parser.add_argument("--gpu", metavar="NAME", help="GPU type of logs that do not say theirs, such as a100-80")
    return parser


def json_text(runs: Sequence[PriorRun]) -> Iterator[str]:
    """The JSON list of records in pieces, one record a line."""
    encode = json.JSONEncoder(ensure_ascii=False, default=_plain, check_circular=False).encode
    yield "["
    for i, run in enumerate(runs):
        yield ",\n " if i else "\n "
        yield escaped(encode(json_record(run)))
    yield "\n]\n"


def json_record(run: PriorRun) -> dict[str, Any]:
    """One record with the keys of the contract, in their order."""
    values = vars(run)
    return {key: values[key] for key in JSON_KEYS}


def _plain(value: object) -> dict[str, float | None]:
    if isinstance(value, MemoryGib):
        return {"allocated": value.allocated, "active": value.active, "reserved": value.reserved}
    raise TypeError(f"{type(value).__name__} has no place in a record")


def _speed(it_per_s: float | None) -> str:
    """Thousandths, or three digits of what is slower: large models take minutes a step."""
    if it_per_s is None:
        return "-"
    return f"{it_per_s:.3f}" if it_per_s >= 0.1 else f"{it_per_s:.3g}"


def _peak(memory: MemoryGib | None) -> str:
    if memory is None:
        return "-"
    kinds = (("reserved", memory.reserved), ("active", memory.active), ("allocated", memory.allocated))
    return next((f"{value:.1f} {kind}" for kind, value in kinds if value is not None), "-")


def _row(run: PriorRun, root: str) -> tuple[str, ...]:
    path = os.path.relpath(run.path, root) if run.path.startswith(root) else run.path
    steps = f"{_text(run.steps_done)}/{_text(run.steps_total)}"
    batch = f"{_text(run.batch_size)}x{_text(run.gradient_accumulation_steps)}"
    return (
        path, run.model or "-", _text(run.lora_rank), batch, _text(run.max_seq_len), run.gpu or "-", steps,
        _speed(run.it_per_s), _peak(run.peak_memory_gib), short_time(run.wall_s) if run.wall_s else "-", run.state,
    )  # fmt: skip


def _text(value: int | None) -> str:
    return "-" if value is None else str(value)


def print_table(read: PriorsRead, width: int | None = None) -> None:
    """Print the records as a table, then how many files were looked into.

    Args:
        read: what was read.
        width: columns; None = the terminal's, unlimited when piped. Where a line does not fit, a log's path stands
            on a line of its own above what was learnt from it.
    """
    if width is None and sys.stdout.isatty():
        width = shutil.get_terminal_size().columns
    if read.runs:
        root = str(Path.cwd())
        _print_rows([_COLUMNS, *(_row(run, root) for run in read.runs)], width)
    states = Counter(run.state for run in read.runs)
    summary = ", ".join(f"{number} {state}" for state, number in states.most_common())
    found = f"{len(read.runs)} training log{'s' * (len(read.runs) != 1)}{f' ({summary})' if summary else ''}"
    if read.cells:
        timed = sum(cell.seconds is not None for cell in read.cells)
        found += f"; {len(read.cells)} evaluation log{'s' * (len(read.cells) != 1)} ({timed} with a time)"
    print(f"searched {read.searched} file{'s' * (read.searched != 1)}: {found}")  # noqa: T201 - what was asked for


def _print_rows(rows: Sequence[Sequence[str]], width: int | None) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
    apart = width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width
    for row in rows:
        cells = [
            cell.rjust(size) if name in _RIGHT else cell.ljust(size)
            for name, cell, size in zip(_COLUMNS, row, widths, strict=True)
        ]
        if apart:
            cells = [f"{row[0]}\n{_GAP[:1]}{cells[1]}", *cells[2:]]
        print(_GAP.join(cells).rstrip())  # noqa: T201 - what was asked for
