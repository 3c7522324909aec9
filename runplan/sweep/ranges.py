"""Which values of a config are out of range, whatever the machine: all of them at once. Pure.

Types are the schema's business, files and clusters that of verification. Keys that runplan works out are None here
and pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runplan.errors import Problem
from runplan.jobs.requests import CPU
from runplan.locate import unset_variables
from runplan.units import parse_memory_gib, parse_slurm_time, slurm_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runplan.config import Config

ATTENTION = ("q_proj", "k_proj", "v_proj", "output_proj")
SCHEDULERS = ("cosine", "none")
DEVICES = ("cuda", "cpu")

LAST_OF_60 = 59
"""Of minutes in an hour and seconds in a minute."""

_DIGITS = re.compile(r"\d+")
_PLAIN_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def _at_least(config: Config) -> Iterator[tuple[str, float | None, float]]:
    """Key, value and smallest allowed value."""
    yield "lora.rank", config.lora.rank, 1
    yield "optimizer.num_warmup_steps", config.optimizer.num_warmup_steps, 0
    yield "optimizer.weight_decay", config.optimizer.weight_decay, 0
    yield "epochs", config.epochs, 1
    yield "batch_size", config.batch_size, 1
    yield "effective_batch_size", config.effective_batch_size, 1
    yield "gradient_accumulation_steps", config.gradient_accumulation_steps, 1
    yield "max_seq_len", config.max_seq_len, 1
    yield "seed", config.seed, 0
    yield "dataset.train_rows", config.dataset.train_rows, 1
    yield "dataset.word_length", config.dataset.word_length, 1
    yield "dataset.n_words", config.dataset.n_words, 1
    yield "resources.gpus", config.resources.gpus, 1
    yield "resources.gpus_per_node", config.resources.gpus_per_node, 1
    yield "resources.cpus_per_task", config.resources.cpus_per_task, 1
    yield "trainer.log_every_n_steps", config.trainer.log_every_n_steps, 1
    yield "trainer.run_val_every_n_steps", config.trainer.run_val_every_n_steps, 1
    yield "trainer.max_steps_per_epoch", config.trainer.max_steps_per_epoch, 1
    yield "trainer.max_rungs", config.trainer.max_rungs, 0
    yield "evaluation.limit", config.evaluation.limit, 1
    yield "evaluation.max_tokens", config.evaluation.max_tokens, 1
    yield "evaluation.batch_size", config.evaluation.batch_size, 1
    yield "evaluation.gpus", config.evaluation.gpus, 1
    yield "evaluation.temperature", config.evaluation.temperature, 0
    yield "estimator.minimum_steps", config.estimator.minimum_steps, 0


def _above_zero(config: Config) -> Iterator[tuple[str, float | None]]:
    yield "optimizer.lr", config.optimizer.lr
    yield "optimizer.clip_grad_norm", config.optimizer.clip_grad_norm
    yield "lora.alpha", config.lora.alpha
    yield "resources.gpu_memory_gib", config.resources.gpu_memory_gib
    yield "resources.memory_bandwidth_gb_per_s", config.resources.memory_bandwidth_gb_per_s
    yield "resources.bf16_tflops", config.resources.bf16_tflops
    yield "resources.fp32_tflops", config.resources.fp32_tflops
    yield "budget.gpu_hours", config.budget.gpu_hours
    yield "model.params_b", config.model.params_b


def _numbers(config: Config) -> Iterator[Problem]:
    for key, value, least in _at_least(config):
        if value is not None and not value >= least:
            yield Problem(f"{key} is {value}, must be at least {least}", key, f"set {key}={least} or more")
    for key, number in _above_zero(config):
        if number is not None and not 0 < number < float("inf"):
            yield Problem(f"{key} is {number}, must be more than 0", key, f"set {key} to a positive number")
    if not 0 <= config.lora.dropout < 1:
        yield Problem(
            f"lora.dropout is {config.lora.dropout}, must be at least 0 and below 1", "lora.dropout", "try 0.05"
        )
    fraction = config.dataset.train_fraction
    if fraction is not None and not 0 < fraction < 1:
        yield Problem(
            f"dataset.train_fraction is {fraction}, must be between 0 and 1",
            "dataset.train_fraction",
            "0.8 trains on 80 % of the rows",
        )
    if not 0 < config.estimator.utilization <= 1:
        yield Problem(
            f"estimator.utilization is {config.estimator.utilization}, must be above 0 and at most 1",
            "estimator.utilization",
            "1.0 fills the GPU, 0.7 leaves 30 % free",
        )


def _deeds(config: Config) -> Iterator[Problem]:
    if not config.train and not config.evaluation.enabled:
        what = "train=false and evaluation=none leave nothing to do"
        yield Problem(what, "train, evaluation", "drop one of them")
    if config.evaluation.gpus is not None and config.resources.gpu == CPU:
        what = f"evaluation.gpus is {config.evaluation.gpus}, and resources=cpu has no GPUs"
        yield Problem(what, "evaluation.gpus", "drop it, or choose resources= with a GPU")


def _names(config: Config) -> Iterator[Problem]:
    unknown = [name for name in config.lora.attn_modules if name not in ATTENTION]
    if unknown:
        yield Problem(
            f"lora.attn_modules names {', '.join(unknown)}", "lora.attn_modules", f"choose among {', '.join(ATTENTION)}"
        )
    if not (config.lora.attn_modules or config.lora.apply_to_mlp or config.lora.apply_to_output):
        yield Problem("no module gets adapters", "lora.attn_modules", "name modules, or set lora.apply_to_mlp=true")
    if config.packed not in (True, False, "auto"):
        yield Problem(f"packed is {config.packed!r}", "packed", "choose packed=auto, packed=true or packed=false")
    if config.optimizer.lr_scheduler not in SCHEDULERS:
        yield Problem(
            f"optimizer.lr_scheduler is {config.optimizer.lr_scheduler!r}",
            "optimizer.lr_scheduler",
            f"choose among {', '.join(SCHEDULERS)}",
        )
    if config.trainer.device not in DEVICES:
        yield Problem(
            f"trainer.device is {config.trainer.device!r}", "trainer.device", f"choose among {', '.join(DEVICES)}"
        )
    if "{input}" not in config.prompt:
        yield Problem(
            f"prompt {config.prompt!r} has no {{input}}, so every row would get the same prompt",
            "prompt",
            "write the row's place into it: 'prompt=\"Q: {input}\"'",
        )


def _batch(config: Config) -> Iterator[Problem]:
    """An effective batch that was set must be what the batch and accumulation that were set make, or can make."""
    batch, steps, gpus = config.batch_size, config.gradient_accumulation_steps, config.resources.gpus
    wanted = config.effective_batch_size
    if wanted is None or min(batch or 1, steps or 1, gpus, wanted) < 1:
        return
    if batch is None or steps is None:
        yield from _indivisible(config, (batch or 1) * (steps or 1) * gpus)
        return
    if batch * steps * gpus == wanted:
        return
    yield Problem(
        f"batch_size {batch} × gradient_accumulation_steps {steps} × {gpus} GPU"
        f" = {batch * steps * gpus} sequences a step, effective_batch_size is {wanted}",
        "effective_batch_size",
        f"set effective_batch_size={batch * steps * gpus}, or leave out one of the others",
    )


def _indivisible(config: Config, part: int) -> Iterator[Problem]:
    wanted, gpus = config.effective_batch_size, config.resources.gpus
    if wanted is None or wanted % part == 0:
        return
    given = config.batch_size or config.gradient_accumulation_steps
    key = "batch_size" if config.batch_size else "gradient_accumulation_steps"
    of = f"{key} {given} × {gpus} GPU{'s' * (gpus > 1)} = {part}" if given else f"{gpus} GPUs"
    other = f"leave out {key}" if given else "change resources.gpus"
    yield Problem(
        f"effective_batch_size {wanted} is no multiple of {of}",
        "effective_batch_size",
        f"set effective_batch_size={max(1, wanted // part) * part}, or {other}",
    )


def _times(config: Config) -> Iterator[Problem]:
    for key, text in (("resources.time", config.resources.time), ("resources.time_limit", config.resources.time_limit)):
        if text is None:
            continue
        problem = _digits_only(key, text) if _DIGITS.fullmatch(text) else _clock(key, text)
        if problem:
            yield problem


def _digits_only(key: str, text: str) -> Problem:
    number = int(text)
    if not number:
        return Problem(f"{key} is {text}, which leaves no time", key, 'write "HH:MM:SS"')
    return Problem(
        f"{key} is {text}, which SLURM takes for {number} minutes ({slurm_time(number * 60)}), others for seconds",
        key,
        f"write hours, minutes and seconds: {slurm_time(number * 60)} or {slurm_time(number)}",
    )


def _clock(key: str, text: str) -> Problem | None:
    try:
        time_s = parse_slurm_time(text)
    except ValueError as error:
        return Problem(f"{key}: {error}", key, 'write "HH:MM:SS" or "D-HH:MM:SS"')
    late = [part for part in text.partition("-")[2 * ("-" in text)].split(":")[1:] if int(part) > LAST_OF_60]
    if late and time_s is not None:
        what = f"{key} is {text}: minutes and seconds end at {LAST_OF_60}, {late[0]} is past it"
        return Problem(
            what, key, f'SLURM would take it for "{slurm_time(time_s)}"; write the time you mean as "HH:MM:SS"'
        )
    if text.count(":") == 1 and "-" not in text and time_s is not None:
        what = f"{key} is {text}, which SLURM takes for minutes and seconds"
        return Problem(what, key, f'write "{slurm_time(time_s)}" or "{text}:00"')
    if time_s is not None and time_s <= 0:
        return Problem(f"{key} is {text}, which leaves no time", key, 'write "HH:MM:SS"')
    return None


def _memory(config: Config) -> Iterator[Problem]:
    text = config.resources.mem
    if text is None:
        return
    if text.strip() == "0":
        what = "resources.mem is 0, which asks SLURM for all memory of a node: whether that is enough cannot be told"
        yield Problem(what, "resources.mem", "write what you mean, such as 64G, or leave it to the estimate")
        return
    if _PLAIN_NUMBER.fullmatch(text.strip()):
        yield Problem(
            f"resources.mem is {text}, which SLURM takes for {text} MB", "resources.mem", f"write {text}G or {text}M"
        )
        return
    try:
        if parse_memory_gib(text) <= 0:
            yield Problem(f"resources.mem is {text}, must be more than 0", "resources.mem", "write 64G")
    except ValueError as error:
        yield Problem(f"resources.mem: {error}", "resources.mem", "write 64G")


_RULES: tuple[Callable[[Config], Iterator[Problem]], ...] = (
    *(_numbers, _deeds, _names, _batch, _times, _memory),
    unset_variables,
)


def check_ranges(config: Config) -> list[Problem]:
    """Every value that is out of range or that SLURM would misread, with where and what to do."""
    return [problem for rule in _RULES for problem in rule(config)]
