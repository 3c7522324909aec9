"""What torchtune does where the user says nothing, and what it would refuse of what the user says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runplan.config import Config, Dtype
from runplan.errors import Problem
from runplan.estimate.logs.settings import default_checkpointing
from runplan.estimate.memory import nf4
from runplan.estimate.memory.weights import quantised_shapes
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture
from runplan.sweep.ranges import ATTENTION
from runplan.trainers.builders import OF_TRL


def setting_problems(config: Config, architecture: Architecture) -> tuple[Problem, ...]:
    """Settings that torchtune would refuse, or would fail on after the job has waited in the queue.

    What is wrong with any trainer is said by `ranges.check_ranges`, before this is asked.
    """
    if architecture.family in OF_TRL:
        what = f"torchtune {config.trainer.version} has no {architecture.family} models"
        return (Problem(what, "model, trainer", "use trainer=trl, which has"),)
    return (
        *_adapters(config, architecture),
        *_quantised(config, architecture),
        *_texts(config),
        *_training(config, architecture),
    )


def _adapters(config: Config, architecture: Architecture) -> Iterator[Problem]:
    lora = config.lora
    if not lora.attn_modules:
        what = "adapters on no attention projection, which torchtune cannot make"
        yield Problem(what, "lora.attn_modules", f"use any of {', '.join(ATTENTION)}")
    if lora.apply_to_output and architecture.tie_word_embeddings:
        what = "adapters on the output head, which this model shares with its embeddings"
        yield Problem(what, "lora.apply_to_output", "use lora.apply_to_output=false")


def _quantised(config: Config, architecture: Architecture) -> Iterator[Problem]:
    """What torchao asserts when a job has started: NF4's groups must be whole, on every GPU."""
    lora = config.lora
    adapter = Adapter(lora.rank, tuple(lora.attn_modules), lora.apply_to_mlp, quantize_base=lora.quantize_base)
    if lora.quantize_base and lora.use_dora and config.resources.gpus > 1:
        what = "DoRA on weights in 4 bits that several GPUs share: torchao cannot add to such a weight"
        yield Problem(what, "lora.use_dora, resources.gpus", "use resources.gpus=1, or one without the other")
    shapes = quantised_shapes(architecture, adapter)
    if what := nf4.problem(shapes, 1):
        yield Problem(what, "lora.quantize_base", "use lora.quantize_base=false: a model this narrow needs no 4 bits")
    elif what := nf4.problem(shapes, config.resources.gpus):
        fitting = [n for n in range(config.resources.gpus, 0, -1) if not nf4.problem(shapes, n)]
        yield Problem(what, "lora.quantize_base, resources.gpus", f"use resources.gpus={fitting[0]}")


def _texts(config: Config) -> Iterator[Problem]:
    if config.system_prompt == "???":
        what = "torchtune reads the system prompt ??? as a value that was forgotten"
        yield Problem(what, "system_prompt", "add a word or a space to it")


def _training(config: Config, architecture: Architecture) -> Iterator[Problem]:
    longest = architecture.max_position_embeddings
    if config.max_seq_len > longest:
        what = f"sequences of {config.max_seq_len} tokens, the model takes {longest}"
        yield Problem(what, "max_seq_len", f"use max_seq_len={longest} or less")
    recomputes = complete_trainer_defaults(config, architecture).activation_checkpointing
    if config.trainer.activation_offloading and not (recomputes and config.trainer.device == "cuda"):
        what = "activation offloading works only with activation checkpointing and on CUDA"
        yield Problem(what, "trainer.activation_offloading", "set activation_checkpointing=true, trainer.device=cuda")


def complete_trainer_defaults(config: Config, architecture: Architecture) -> Config:
    """The configuration with what the user left open (checkpointing, compile, dtype) as torchtune ships it.

    Read in `recipes/configs/**/*lora*.yaml` of 0.6.1: compile is off and dtype bf16 everywhere. Where bf16 has no
    hardware (and on CPUs, where it is slower) the recipes' other format, fp32, is the default.
    """
    checkpointing = default_checkpointing(architecture, config.resources.gpus)
    bf16 = config.resources.supports_bf16 and config.trainer.device == "cuda"
    return replace(
        config,
        activation_checkpointing=checkpointing
        if config.activation_checkpointing is None
        else config.activation_checkpointing,
        compile=False if config.compile is None else config.compile,
        dtype=(Dtype.bf16 if bf16 else Dtype.fp32) if config.dtype is None else config.dtype,
    )
