"""What logs of Inspect say of an evaluation, and what our own job notes beside them; read without Inspect."""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from runplan.jobs.attempts import moment, parse_records
from runplan.priors.flat import flat_yaml
from runplan.read.regular import open_regular

HEAD_BYTES = (1 << 16, 1 << 20, 1 << 23)
"""Read of a JSON log, one after the other until everything is found; all that is wanted stands before the samples."""
_ARCHIVE_BYTES = 1 << 24
_WANTED = frozenset({"status", "eval", "plan", "results", "stats"})
_UNREADABLE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError),  # cut short, packed in another way
    *(ValueError, RecursionError, KeyError, TypeError, AttributeError, OverflowError),  # of another form
)
_ENGINE = "hf/"
"""Inspect's provider whose times are learnt; other engines take other times."""
BATCH_SIZE = 32
"""Samples that this provider generates together where it is told no number of connections (inspect_ai 0.3)."""
_MOST = 10**15
"""Larger numbers are no counts."""
_LONGEST_S = 90 * 86400
_CLOCK_S = 2
"""Times are written in whole seconds."""
_OWN_BYTES = 1 << 16

Fields = dict[str, Any]
"""Fields of a `PriorCell` by name, as JSON has them."""
Document = Mapping[str, Any]


def cell_fields(path: str) -> Fields | None:
    """What one log says; None for what is no log of Inspect.

    Args:
        path: a `.eval` archive or a JSON log.
    """
    try:
        document = _archive_head(path) if path.endswith(".eval") else _json_head(path)
        said = document["eval"]
        fields: Fields = {"function": str(said["task"]).rpartition("/")[2], **_data(said)}
        fields |= _model(said)
    except _UNREADABLE:
        return None
    for part in (_evaluated, _settings):
        with suppress(*_UNREADABLE):
            fields |= part(document)
    with suppress(*_UNREADABLE):
        fields |= _own_cell(path, document if "seconds" in fields else {})
    return {key: value for key, value in fields.items() if value is not None}


def _archive_head(path: str) -> Document:
    with zipfile.ZipFile(path) as archive, archive.open("header.json") as head:
        document = json.loads(head.read(_ARCHIVE_BYTES))
    return document if isinstance(document, dict) else {}


def _json_head(path: str) -> Document:
    """The parts of a log that stand before its samples, which may be any number of megabytes."""
    found: Document = {}
    with open_regular(Path(path)) as opened:
        text = b""
        for size in HEAD_BYTES:
            more = opened.read(size - len(text))
            text += more
            found = _parts(text.decode("utf-8", "ignore"))
            if len(text) < size or found.keys() >= _WANTED:
                break
    return found


def _parts(text: str) -> dict[str, Any]:
    """Keys and values at the top of a JSON object, as far as they are whole and wanted."""
    decoder, found, at = json.JSONDecoder(), {}, 0
    try:
        at = _after(text, 0, "{")
        while text[at : at + 1] == '"':
            key, at = decoder.raw_decode(text, at)
            if key == "samples":
                break
            value, at = decoder.raw_decode(text, _after(text, at, ":"))
            if key in _WANTED:
                found[key] = value
            at = _after(text, at, ",")
    except (ValueError, RecursionError):
        pass
    return found


def _after(text: str, at: int, mark: str) -> int:
    """Where the next thing stands behind a mark and blanks."""
    while text[at : at + 1].isspace():
        at += 1
    if text[at : at + 1] != mark:
        raise ValueError(mark)
    at += 1
    while text[at : at + 1].isspace():
        at += 1
    return at


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MOST else None


def _data(said: Document) -> Fields:
    place, args = said.get("task_file"), said.get("task_args")
    parts = PurePath(place).parts[-2:] if isinstance(place, str) else ()
    return {
        "script": "/".join(parts) if len(parts) == 2 else None,
        "args": args if isinstance(args, dict) and args else None,
        "data_samples": _count((said.get("dataset") or {}).get("samples")),
        "task_id": said["task_id"] if isinstance(said.get("task_id"), str) else None,
    }


def _model(said: Document) -> Fields:
    """Names of the model by the log; our own jobs call each `hf/local` and say its name in eval.yaml."""
    given = (said.get("model_args") or {}).get("model_path")
    names = [str(said.get("model", "")).rpartition("/")[2], PurePath(given).name if isinstance(given, str) else ""]
    return {"models": [name for name in names if name not in {"", "local", "model"}] or None}


def _evaluated(document: Document) -> Fields:
    """Samples, tokens and time of an evaluation that ended well."""
    said, results = document["eval"], document.get("results") or {}
    config, stats = said.get("config") or {}, document.get("stats") or {}
    usage = stats.get("model_usage") or {}
    used: Document = next(iter(usage.values())) if len(usage) == 1 else {}
    given, made = _count(used.get("input_tokens")), _count(used.get("output_tokens"))
    fields: Fields = {}
    once = config.get("limit") is None and (config.get("epochs") or 1) == 1
    everything = _count((said.get("dataset") or {}).get("samples"))
    total = _count(results.get("total_samples"))
    whole = document.get("status") == "success" and total == _count(results.get("completed_samples"))
    samples = total if whole and total else everything if once else None
    if given and samples and given >= samples:
        fields["prompt_tokens"] = given / samples
    if not (whole and total and str(said.get("model", "")).startswith(_ENGINE)):
        return fields
    fields["samples"] = total
    if made and given:
        fields["output_tokens"] = made / total
    seconds = _seconds(stats)
    if seconds is not None and "output_tokens" in fields:
        fields["seconds"] = seconds
    return fields


def _seconds(stats: Document) -> float | None:
    begun, ended = datetime.fromisoformat(stats["started_at"]), datetime.fromisoformat(stats["completed_at"])
    seconds = (ended - begun).total_seconds()
    return seconds if 0 < seconds < _LONGEST_S else None


def _settings(document: Document) -> Fields:
    given = (document["eval"].get("model_generate_config") or {}) | ((document.get("plan") or {}).get("config") or {})
    return {
        "max_tokens": _count(given.get("max_tokens")),
        "batch_size": _count(given.get("max_connections")) or BATCH_SIZE,
    }


def _own_cell(path: str, document: Document) -> Fields:
    """What our own files say that stand around a cell's log: eval.yaml, jobs.jsonl, the run's configuration."""
    cell, folder = os.path.split(os.path.dirname(path))  # noqa: PTH120 - as in LogFile.folder
    about = flat_yaml(_read(f"{cell}/eval.yaml")) if folder == "logs" else {}
    if not about:
        return {}
    names = [PurePath(str(about.get("base_model_path") or "")).name, about.get("model")]
    gpu = flat_yaml(_read(f"{cell}/../../.hydra/config.yaml")).get("resources.gpu")
    weights = about.get("weights")
    fields: Fields = {
        "models": list(dict.fromkeys(name for name in names if isinstance(name, str) and name)) or None,
        "tuned": weights != "base" if isinstance(weights, str) else None,
        "gpu": gpu if isinstance(gpu, str) and "$" not in gpu else None,
    }
    stats = document.get("stats") or {}
    fields["startup_s"] = _startup_s(_read(f"{cell}/jobs.jsonl"), stats) if stats else None
    return {key: value for key, value in fields.items() if value is not None}


def _read(path: str) -> bytes:
    try:
        with open_regular(Path(path)) as file:
            return file.read(_OWN_BYTES)
    except OSError:
        return b""


def _startup_s(text: bytes, stats: Document) -> float | None:
    """Seconds of the job that wrote a log beside Inspect's own; None where no job that ended well is known to have."""
    begun, ended = (datetime.fromisoformat(stats[key]) for key in ("started_at", "completed_at"))
    if begun.tzinfo is None or ended.tzinfo is None:
        return None
    job, since = "", None
    for record in parse_records(text.decode("utf-8", "replace")):
        at = moment(record.time)
        if record.event == "started":
            job, since = record.job_id, at
        if record.event != "ended" or since is None or at is None or record.job_id != job:
            continue
        around = min((begun - since).total_seconds(), (at - ended).total_seconds()) >= -_CLOCK_S
        if around and record.exit_code == 0 and record.seconds is not None:
            beside = record.seconds - (ended - begun).total_seconds()
            return beside if 0 < beside < _LONGEST_S else None
        since = None
    return None
