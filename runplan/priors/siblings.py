"""What the files beside a log add: the config it ran with, the request of its job script, its GPU samples."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from runplan.priors import settings
from runplan.priors.adapters import ADAPTER, RESULTS, SWIFT_ARGUMENTS
from runplan.priors.argument_files import arguments_of
from runplan.priors.files import CONFIGS, YAML, LogFile
from runplan.priors.flat import flat_yaml, resolved
from runplan.priors.names import better_gpu, gpu_key
from runplan.priors.own_jobs import job_fields
from runplan.priors.samples import is_recording, recording_fields, records_job
from runplan.priors.saved import adapter_fields, results_fields, swift_fields
from runplan.priors.slurm_words import is_job_text, likely_job
from runplan.priors.threads import threads_in_text
from runplan.units import MIB_PER_GIB, parse_memory_gib

_BYTES = 1 << 20
"""Read of each end of a file."""
LATER_NS = 900 * 10**9
"""What is written so long after a log is another run's."""
_SBATCH = re.compile(rb"^#SBATCH[ \t]+([^\r\n]*)", re.MULTILINE)
_TYPED = re.compile(r"(?:^|[\s,=])(?:gres/)?gpu:(?P<type>[A-Za-z][\w.-]*)(?:[:=](?P<count>\d{1,6}))?")
_COUNTED = re.compile(
    r"(?:--gpus(?:-per-node)?|-G)[= ](?:(?P<type>[A-Za-z][\w.-]*):)?(?P<count>\d{1,6})|gpu:(?P<plain>\d{1,6})\b"
)
_MEM = re.compile(r"--mem[= ]\"?(?P<text>\d{1,9}[KMGT]?)\b", re.IGNORECASE)
_CONSTRAINT = re.compile(r"(?:--constraint|-C)[= ]\"?(?P<text>[^\"\s]+)")
_STATE_NUMBERS = {
    name: re.compile(rb'"%b": (\d{1,12})\b(?!\.)' % key)
    for name, key in (
        ("steps_total", b"max_steps"),
        ("epochs", b"num_train_epochs"),
        ("batch_size", b"train_batch_size"),
    )
}
_PADDED = re.compile(rb"^# Tokens of a row, padded in batches of [\d, ]+:((?: \d{1,9}(?:\.\d)?){7})\s", re.MULTILINE)
"""What our own job scripts note of the rows they train on."""
_HEADER = re.compile(r"[A-Za-z#]")
_WANTED = (
    ("name", re.compile(r"(?:gpu[._ ]?)?name")),
    ("used", re.compile(r"(?:gpu[._ ]?)?mem(?:ory)?[._ ]used(?:[._ ]mi?b| \[mib\])?")),
)
_SAMPLE = re.compile(r"(\d{1,8}(?:\.\d{1,6})?)(?: MiB)?\Z")
_MODELS = re.compile(r"gpu[48]0|[avhb]\d{2,3}|l40s?|l4|t4|rtx|gh200|a6000|mi\d{3}", re.IGNORECASE)


def sibling_fields(folder: str, names: Iterable[str], log_name: str = "") -> dict[str, Any]:
    """Fields of a record that the files beside a log say; the trainer's own config counts most.

    Files that cannot be read or understood say nothing.
    """
    fields: dict[str, Any] = {}
    names = list(names)
    for name, parse in [*_PARSERS.items(), *((f"../{name}", _PARSERS[name]) for name in CONFIGS)]:
        if name not in names:
            continue
        for key, value in parse(_read(os.path.join(folder, name))).items():  # noqa: PTH118 - as in files.LogFile.folder
            fields[key] = better_gpu(fields.get(key), value) if key == "gpu" else fields.get(key, value)
    others = [name for name in names if name.endswith(YAML) and name not in _PARSERS and "/" not in name]
    if others:
        fields = {**arguments_of(_read(os.path.join(folder, name)) for name in others), **fields}  # noqa: PTH118 - same
    for name in names:
        if "process_peak_gib" not in fields and is_recording(name) and "/" not in name and records_job(name, log_name):
            fields |= recording_fields(_read(os.path.join(folder, name)))  # noqa: PTH118 - same
    if "jobs.jsonl" in names:
        fields |= job_fields(_read(os.path.join(folder, "jobs.jsonl")), log_name)  # noqa: PTH118 - same
    return fields


def adapter_beside(log: LogFile) -> dict[str, Any]:
    """What is saved with the adapters of a log's run; nothing where they were saved after the log was over."""
    for name, _, modified_ns in log.siblings:
        if name.endswith(ADAPTER) and modified_ns <= log.written_ns + LATER_NS:
            return adapter_fields(_read(f"{log.folder}/{name}"))
    return {}


def job_beside(log: LogFile) -> dict[str, Any]:
    """What files beside a log or above it keep of SLURM's words on its job; empty where none names it."""
    job: dict[str, Any] = {}
    name = likely_job(log.name) if any(is_job_text(one) for one, _, _ in log.siblings) else None
    for text, size, modified_ns in log.siblings if name else ():
        if is_job_text(text) and text != log.name:
            job |= _jobs(f"{log.folder}/{text}", size, modified_ns).get(name or "", {})
    return job


@lru_cache(maxsize=64)
def _jobs(path: str, size: int, modified_ns: int) -> dict[str, dict[str, Any]]:
    """Jobs of a file, which may be beside and above thousands of logs; the same as long as size and time are."""
    from runplan.priors.job_texts import jobs_in_text  # noqa: PLC0415 - patterns that few folders need

    del size, modified_ns
    return jobs_in_text(_read(path).decode("utf-8", "replace"))


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as in files.LogFile.folder
            text = file.read(_BYTES)
            if len(text) == _BYTES and (size := os.fstat(file.fileno()).st_size) > _BYTES:
                file.seek(max(_BYTES, size - _BYTES))
                text += b"\n" + file.read(_BYTES)
            return text
    except OSError:
        return b""


def script_fields(text: bytes) -> dict[str, Any]:
    r"""GPU, count, memory and threads that a job script asks for; a plain `gpu:2` says no type.

    >>> script_fields(b"#SBATCH --gres=gpu:a100:2\n#SBATCH --constraint=gpu80")
    {'gpu': 'a100-80', 'num_gpus': 2}
    """
    fields: dict[str, Any] = {}
    wanted: str | None = None
    for line in (match.decode("utf-8", "replace") for match in _SBATCH.findall(text)):
        if constraint := _CONSTRAINT.search(line):
            wanted = gpu_of_words(constraint["text"]) or wanted
            continue
        if (memory := _MEM.search(line)) and (asked := parse_memory_gib(memory["text"])):
            fields["asked_mem_gib"] = asked
        if typed := _TYPED.search(line):
            fields["gpu"] = gpu_key(
                typed["type"].replace("_", " ").replace(" ", "-", 1) if "gb" in typed["type"] else typed["type"]
            )
            fields["num_gpus"] = int(typed["count"] or 1)
        elif counted := _COUNTED.search(line):
            fields["num_gpus"] = int(counted["count"] or counted["plain"])
            if counted["type"]:
                fields["gpu"] = gpu_key(counted["type"])
    if gpu := better_gpu(fields.get("gpu"), wanted):
        fields["gpu"] = gpu
    if threads := threads_in_text(text):
        fields["cpus"] = threads
    if padded := _PADDED.search(text):
        fields["padded_tokens"] = [float(number) for number in padded[1].split()]
    return fields


def gpu_of_words(text: str) -> str | None:
    """The GPU that node features such as `gpu80` or `a100&nvlink` mean; None when none is one, or several are."""
    keys = {gpu_key(word) for word in re.split(r"[&|,*()\[\]]+", text) if _MODELS.match(word)}
    return keys.pop() if len(keys) == 1 else None


def metrics_fields(text: bytes) -> dict[str, Any]:
    r"""GPU name and highest memory in use, in GiB, of the last recording of `nvidia-smi --format=csv` in a file.

    Each attempt begins with its header. Scripts name columns themselves; memory counts that is told in MiB.

    >>> metrics_fields(b"timestamp, name, memory.used [MiB]\n1, Tesla T4, 2048 MiB\n")
    {'gpu': 't4-16', 'process_peak_gib': 2.0}
    """
    columns: dict[str, int] = {}
    width, name, highest = 0, "", 0.0
    for line in text.decode("utf-8", "replace").splitlines():
        row = [cell.strip() for cell in line.split(",")]
        if (header := _columns(row)) is not None:
            columns, width, name, highest = header, len(row), "", 0.0
        elif columns and len(row) == width:
            name = name or (row[columns["name"]] if "name" in columns else "")
            used = _SAMPLE.match(row[columns["used"]]) if "used" in columns else None
            highest = max(highest, float(used[1]) if used else 0.0)
    fields: dict[str, Any] = {"gpu": gpu_key(name)} if name else {}
    if highest:
        fields["process_peak_gib"] = highest / MIB_PER_GIB
    return fields


def _columns(row: list[str]) -> dict[str, int] | None:
    """Which columns a header says hold the GPU's name and the memory in use; None of a row that is no header."""
    if not _HEADER.match(row[0]) or any(cell[:1].isdigit() for cell in row):
        return None
    names = [cell.lower() for cell in row]
    columns = {kind: i for kind, one in _WANTED for i, cell in enumerate(names) if one.fullmatch(cell)}
    return columns if columns or "timestamp" in names else None


def trainer_state_fields(text: bytes) -> dict[str, Any]:
    """What HF Trainer's `trainer_state.json` says of the plan; its history may be megabytes of a damaged file.

    Steps done are not taken: they may be those of another attempt than the log's.

    >>> trainer_state_fields(b'{"global_step": 40, "log_history": [], "max_steps": 40, "num_train_epochs": 2}')
    {'steps_total': 40, 'epochs': 2}
    """
    found = {name: _STATE_NUMBERS[name].search(text) for name in _STATE_NUMBERS}
    return {name: int(match[1]) for name, match in found.items() if match and int(match[1]) > 0}


def _yaml(understand: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Callable[[bytes], dict[str, Any]]:
    return lambda text: understand(resolved(flat_yaml(text)))


_PARSERS: Mapping[str, Callable[[bytes], dict[str, Any]]] = {
    "finetune.yaml": _yaml(settings.trainer_fields),
    "finetune.slurm": script_fields,
    "setup_finetune.yaml": _yaml(settings.setup_fields),
    ".hydra/config.yaml": _yaml(settings.plan_fields),
    "gpu_metrics.csv": metrics_fields,
    "trainer_state.json": trainer_state_fields,
    **dict.fromkeys(SWIFT_ARGUMENTS, swift_fields),
    **dict.fromkeys(RESULTS, results_fields),
}
