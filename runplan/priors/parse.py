"""One log's text → the fields of its record. Pure: bytes in, plain values out."""

from __future__ import annotations

import itertools
import re
from typing import Any

from runplan.priors import bars, peaks, rates, saving, settings, trainers, trl
from runplan.priors.bars import add_progress
from runplan.priors.devices import gpu_in_text, request_in_text
from runplan.priors.ending import ending, is_kill
from runplan.priors.join import SWIFT_LOG, TRAINER_LOG
from runplan.priors.letters import plain_bytes, settled, tidy
from runplan.priors.limits import believed
from runplan.priors.names import model_from_path, params_b
from runplan.priors.progress import tune_progress
from runplan.priors.ranks import failed_processes
from runplan.priors.slurm_words import job_id
from runplan.priors.spoken import Span, Word, last_place, spoken_text
from runplan.priors.threads import threads_in_text

Fields = dict[str, Any]
"""Names of `PriorRun`'s fields → what the log says; besides `disk_log`, the name of the DiskLogger file it mentions,
`again`, that earlier attempts stand in the same text or an evaluation after it, and `job`, what
SLURM's programs said of it there."""

_TUNE_SIGNS = (
    b"with resolved config",
    b"|Loss:",
    b"torchtune.utils",
    b" peak memory a",
    b"Setting manual seed to local seed",
    b"emory stats after model init",
    b"tune run ",
)
_FLEX = b"since a BlockMask was passed in"
"""What torchtune remarks before the first packed batch, where nothing else of its start was kept."""
_OTHER_WORK = (
    *(b"Time for quantization:", b"Time for inference:"),
    *(b"[quantize.py:", b"[generate.py:", b"[eleuther_eval.py:"),
)
_STEP = re.compile(rb"Step (\d+) +\| +(?:loss|lr|gpu_resources|peak_memory_\w+|tokens_per_second\w*):")
_TRL_CONFIG = Word(trl.SIGN, trl.SIGN.index(b"F"))
_ATTEMPT = re.compile(rb"[^\r\n]{0,200}with resolved config")
_CHECKPOINTING = (b"Hint: enable_activation_checkpointing is True", b"Activation Checkpointing are enabled")
_PRECISION = re.compile(rb"initialized with precision torch\.(\w+)")
_SAVED_TO = re.compile(rb"(?:saved to|Writing logs to) ([^\r\n]+)/")
_VERSION = re.compile(rb"torchtune(?:==| version:? |[- ]+v?)(\d+\.\d+\.\d+)")
_LOADED = re.compile(rb"loading checkpoint took (\d{1,5}\.?\d*) secs")
_DTYPES = {"bfloat16": "bf16", "float32": "fp32", "float16": "fp16"}
_HEAD = 1 << 16
_SWIFT_STEPS = (b'"global_step/max_steps"', b'"global_step": ')
"""The second up to 2024."""
_JOB_BYTES, _JOB_END_BYTES = 1 << 14, 1 << 16
_JOB_STATE = b"JobState="
_JOB_SIGNS = (_JOB_STATE, b"Job Wall-clock time: ", b"JobID")
_REDRAWN = re.compile(rb"\r[^\r\n%]*+%\|[^\r\n]*+(?<=\])(?=\r[^\n])")
"""A bar that the next one was drawn over; what is printed meanwhile ends in a newline."""


def parse_text(data: bytes, file_name: str = "") -> Fields | None:
    """What a log says, None when it is no training log. Never raises, whatever the bytes are."""
    try:
        if file_name == TRAINER_LOG:
            from runplan.priors.trainer_log import trainer_log_fields  # noqa: PLC0415 - patterns that few logs need

            steps = trainer_log_fields(plain_bytes(data))
            return believed(steps) if steps else None
        if file_name == SWIFT_LOG:
            data = _as_printed(data)
        return _parse(data, file_name)
    except (ValueError, OverflowError):  # thousands of digits where a number should be
        return None


def _as_printed(data: bytes) -> bytes:
    """ms-swift's lines of JSON as it prints them; without the last one, which holds the others once more."""
    lines = [line for line in data.split(b"\n") if line.find(b'"log_history"') < 0]
    return b"\n".join(line for line in lines if any(line.find(sign) >= 0 for sign in _SWIFT_STEPS)).replace(b'"', b"'")


def _parse(data: bytes, file_name: str) -> Fields | None:
    whole = data = plain_bytes(data)
    data, spans, begun = settings.last_attempt(data)
    crowded = _crowded(whole[:begun]) if begun else ()
    hugging_face = None
    if last_place(data, _TRL_CONFIG) >= 0:
        fields = _hugging_face(data, "trl")
    elif any(data.find(sign) >= 0 for sign in _TUNE_SIGNS) or _STEP.search(data) or data.find(_FLEX, 0, _HEAD) >= 0:
        fields = _torchtune(data, spans, file_name)
        fields = fields if _trained(data, fields) else {}
    elif llama := trainers.llama_recipes_fields(settled(data)):
        fields = _llama_recipes(data, llama)
        fields["peak_memory_gib"] = peaks.peak_memory_of_callbacks(data)
    elif hugging_face := trainers.hugging_face_name(data):
        fields = _hugging_face(data, hugging_face)
    else:
        fields = {}
    _add_ending(data, fields, file_name)
    fields["oom_batch_sizes"] = crowded or None
    fields["again"] = begun > 0 or fields.get("again")
    if not fields.get("trainer") and not is_kill(fields["state"]):
        return None
    head, tail = fields.pop("head", None), fields.pop("tail", None)
    fields["cpus"] = threads_in_text(data[:_HEAD] if head is None else head)
    if begun and fields["cpus"] is None:
        fields["cpus"] = threads_in_text(whole[:_HEAD])
    if begun and fields.get("trainer_version") is None and (version := _VERSION.search(whole, 0, _HEAD)):
        fields["trainer_version"] = version[1].decode() if fields.get("trainer") == "torchtune" else None
    if "gpu" not in fields:
        head = data[:_HEAD] if head is None else head
        tail = data[-_HEAD:] if tail is None else tail
        # A name at the very end of a text may still be being written.
        fields["gpu"] = gpu_in_text(head[: head.rfind(b"\n") + 1]) or gpu_in_text(tail[: tail.rfind(b"\n") + 1])
        if fields["gpu"] is None and (request := request_in_text(head)):
            fields["gpu"], asked = request
            fields["num_gpus"] = fields.get("num_gpus") or asked
    return believed(fields)


def _crowded(earlier: bytes) -> tuple[int, ...]:
    """Batch sizes with which attempts before the last one ran out of GPU memory, in order."""
    starts = [match.start() for match in _ATTEMPT.finditer(earlier)]
    parts = [earlier[start:end] for start, end in itertools.pairwise([*starts, len(earlier)])]
    configs = [settings.printed_config(part)[1] for part in parts if _ended_crowded(part)]
    sizes = [settings.trainer_fields(flat).get("batch_size") for flat in configs]
    return tuple(size for size in sizes if isinstance(size, int))


def _ended_crowded(part: bytes) -> bool:
    return ending(part, part.rfind(b"|Loss:"), finished=False).state == "oom"


def _trained(data: bytes, fields: Fields) -> bool:
    """Whether torchtune trained here, or was to: it also evaluates, generates and quantises."""
    if fields.get("steps_done") is not None:
        return True
    return fields["recipe"] not in settings.AFTERWARDS and all(data.find(sign) < 0 for sign in _OTHER_WORK)


def _torchtune(data: bytes, spans: list[Span], file_name: str) -> Fields:
    first = data.find(b"|Loss:")
    head = _head(data, first)
    recipe, config = settings.printed_config(head)
    overrides, command = settings.command_line(head)
    flat = {**config, **overrides}
    fields: Fields = {"trainer": "torchtune", **command, **settings.torchtune_fields(flat)}
    fields["recipe"] = recipe or fields.get("recipe")
    if fields["recipe"] and "single_device" in fields["recipe"]:
        fields["num_gpus"] = 1
    device = flat.get("device")
    if isinstance(device, str) and not device.startswith("cuda"):
        fields["gpu"] = fields["device"] = device
        fields["num_gpus"] = 0 if device == "cpu" else fields.get("num_gpus")
    fields["head"] = head
    _add_head(head, fields)
    fields["init_memory_gib"] = peaks.init_memory(head)
    # Nearly all that passes between the logger's start and the first step.
    fields["loading_s"] = float(loaded[1]) if (loaded := _LOADED.search(head)) else None
    fields["gigabytes"] = peaks.counts_gigabytes(head, file_name)
    # These loggers write their numbers elsewhere, but for W&B's summary at the end.
    elsewhere = fields.get("metric_logger") in {"DiskLogger", "WandBLogger", "TensorBoardLogger", "CometLogger"}
    spoken = data[max(data.rfind(b"|Loss:"), len(data) - 8 * _HEAD) :] if elsewhere else spoken_text(data, spans)
    fields["peak_memory_gib"] = peaks.peak_memory(settled(spoken), gigabytes=fields["gigabytes"])
    fields["counts"] = "ppo" if "ppo_batch_size" in flat else "grpo" if "grpo_size" in flat else None
    _add_bars(data, fields)
    if not elsewhere:
        fields |= rates.token_fields(head, settled(spoken), fields.get("num_gpus"))
    tail = fields.get("tail", b"")
    if fields.get("num_gpus") is None and (processes := failed_processes(tail)):
        fields["num_gpus"] = processes
    _add_model(head, fields)
    _add_model(tail, fields)
    _count_optimizer_steps(head if head.find(b"torchtune.utils") >= 0 else head + tail, fields)
    return fields


def _add_bars(data: bytes, fields: Fields) -> None:
    """How far torchtune came, how fast, and how long it saved: its bars, its step lines, or what is left of a bar."""
    regular = bool(fields.get("pauses"))
    progress, marks = tune_progress(data, regular=regular)
    fields["checkpoint_s"] = saving.seconds_at(data, marks) or saving.drawn_seconds(data, marks)
    if progress:
        add_progress(fields, progress)
        fields["steps_done"] = progress.steps_done or 1  # whose loss it shows
        fields["tail"] = data[max(progress.last_at, len(data) - _HEAD) :]
        fields["completed"] = saving.finished(data, progress, fields)
    elif step := _STEP.search(data):
        last = _STEP.search(data, max(0, data.rfind(b"Step ") - 1)) or step
        fields["steps_done"] = int(last[1]) + (1 if step[1] == b"0" else 0)
        fields["told_at"] = last.start()
    elif cut := bars.cut_progress(data):
        bars.add_cut_progress(fields, cut)


def _head(data: bytes, first: int) -> bytes:
    """What stands before the first bar, which begins at `first` (-1: without one)."""
    head = tidy(settled(data[:_HEAD]) if first < 0 else data[: min(first, _HEAD)])
    return _REDRAWN.sub(b"", head) if b"\r" in head else head


def _add_head(head: bytes, fields: Fields) -> None:
    """What single lines of torchtune's start say."""
    if not fields.get("dtype") and (match := _PRECISION.search(head)):
        fields["dtype"] = _DTYPES.get(match[1].decode())
    if any(head.find(sign) >= 0 for sign in _CHECKPOINTING):
        fields.setdefault("activation_checkpointing", True)
    if head.find(b"Packing dataset:") >= 0:
        fields.setdefault("packed", True)
    if match := _VERSION.search(head):
        fields["trainer_version"] = match[1].decode()
    if head.find(b"Writing logs to ") >= 0 and (match := settings.DISK_LOG.search(head)):
        fields["disk_log"] = match[2].decode()


def _add_model(text: bytes, fields: Fields) -> None:
    """The model that a folder which checkpoints or logs go to is named after."""
    if not fields.get("model") and (match := _SAVED_TO.search(text)):
        folders = [model_from_path(part) for part in match[1].decode("utf-8", "replace").split("/")]
        fields["model"] = next((name for name in folders if params_b(name) is not None), None)
    if not fields.get("params_b"):
        fields["params_b"] = params_b(fields.get("model"))


def _count_optimizer_steps(head: bytes, fields: Fields) -> None:
    """Speed in optimizer steps. Up to torchtune 0.1 the bar counted batches; later versions count optimizer steps."""
    seconds = fields.get("s_per_step")
    old = head.find(b"torchtune.utils.logging") >= 0 and head.find(b"Memory stats after") < 0
    if old or head.find(b"Memory Stats after") >= 0 or head.find(b"gpu_resources:") >= 0:
        each = fields.get("gradient_accumulation_steps")
        if each is None:
            seconds = None
        else:
            seconds = seconds * each if seconds else None
            for key in ("steps_done", "steps_total"):
                fields[key] = fields[key] // each if fields.get(key) and fields.get("last_at") else fields.get(key)
    fields["s_per_step"] = seconds
    fields["it_per_s"] = 1 / seconds if seconds else None


def _hugging_face(data: bytes, name: str) -> Fields:
    from runplan.priors.hugging_face import hugging_face_run  # noqa: PLC0415 - fifty patterns to compile, if at all

    return hugging_face_run(data, name)


def _llama_recipes(data: bytes, fields: Fields) -> Fields:
    if progress := bars.recipes_progress(data):
        add_progress(fields, progress)
        seconds = progress.s_per_step
        fields["it_per_s"] = 1 / seconds if seconds else None
    return fields


def _add_ending(data: bytes, fields: Fields, file_name: str) -> None:
    """State and reason; what stops a job after its training was done and saved takes nothing from the run."""
    finished = bool(fields.pop("completed", False))
    begun, told_at = fields.pop("begun", None), fields.pop("told_at", 0)
    text, last_at = data[begun:] if begun else data, fields.pop("last_at", told_at)
    state, reason = ending(text, last_at, finished=finished)
    if finished and (state == "unknown" or is_kill(state)):
        state, reason = "completed", None
    fields["state"], fields["reason"] = state, reason
    fields["job"] = _job(data, text[max(last_at, len(text) - _JOB_END_BYTES) :], file_name)


def _job(data: bytes, rest: bytes, file_name: str) -> Fields | None:
    """What SLURM's programs said of the job in its own log, before and after the training; None where they did not."""
    first = data[:_JOB_BYTES]
    if first.find(_JOB_STATE) < 0 and (rest.find(b"Job") < 0 or all(rest.find(sign) < 0 for sign in _JOB_SIGNS)):
        return None
    from runplan.priors.job_texts import jobs_in_text  # noqa: PLC0415 - patterns that few logs need

    jobs = jobs_in_text(first.decode("utf-8", "replace"))
    for name, said in jobs_in_text(rest.decode("utf-8", "replace"), over=True).items():
        jobs[name] = jobs.get(name, {}) | said
    mine = job_id(file_name)
    return jobs.get(mine) if mine else next(iter(jobs.values())) if len(jobs) == 1 else None
