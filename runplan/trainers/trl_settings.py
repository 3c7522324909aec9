"""What TRL 1.16.0 does where the user says nothing, and what of the user's wishes it cannot do as planned here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from runplan.config import Config, Dtype
from runplan.errors import Problem
from runplan.facts import Architecture, Finding, ModelFacts, Status
from runplan.sweep.ranges import ATTENTION
from runplan.trainers.builders import LLAMA, OF_TRL

FAMILIES = (LLAMA - {"llama2"}) | {"mistral", "qwen2_5"} | OF_TRL
"""Models whose chat format runplan writes, with marks around what is learnt, and whose memory is known."""
OTHER = "or use trainer=torchtune, which does"


def setting_problems(config: Config, architecture: Architecture) -> tuple[Problem, ...]:
    """Settings that TRL would refuse or silently not follow, and those whose memory is not known here.

    What is wrong with any trainer is said by `ranges.check_ranges`, before this is asked.
    """
    found = (*_adapters(config), *_saving(config), *_training(config, architecture))
    if architecture.family not in OF_TRL:
        return found
    return tuple(replace(problem, fix=problem.fix.removesuffix(f", {OTHER}")) for problem in found)


def _adapters(config: Config) -> Iterator[Problem]:
    lora = config.lora
    if lora.apply_to_output:
        what = "adapters on the output head, which TRL refuses: its loss multiplies with the head's weights directly"
        yield Problem(what, "lora.apply_to_output", f"use lora.apply_to_output=false, {OTHER}")
    if lora.use_dora:
        what = "runplan does not know the memory of DoRA with TRL"
        yield Problem(what, "lora.use_dora", f"use lora.use_dora=false, {OTHER}")
    if not lora.attn_modules and not lora.apply_to_mlp:
        yield Problem("adapters on no layer at all", "lora.attn_modules", f"use any of {', '.join(ATTENTION)}")
    if lora.alpha is not None and lora.alpha != int(lora.alpha):
        what = f"lora.alpha={lora.alpha}, TRL takes whole numbers"
        yield Problem(what, "lora.alpha", f"use lora.alpha={round(lora.alpha)}, {OTHER}")


def _saving(config: Config) -> Iterator[Problem]:
    trainer = config.trainer
    if not trainer.save_adapter_weights_only:
        what = "merged weights at every epoch's end, which TRL does not save; evaluations load adapters on their base"
        yield Problem(what, "trainer.save_adapter_weights_only", f"use trainer.save_adapter_weights_only=true, {OTHER}")
    if trainer.max_steps_per_epoch is not None and config.epochs > 1:
        what = f"a limit of steps in each of {config.epochs} epochs; TRL has one for the whole run"
        fix = f"use epochs=1, or dataset.train_rows= instead of trainer.max_steps_per_epoch, {OTHER}"
        yield Problem(what, "trainer.max_steps_per_epoch", fix)


def _training(config: Config, architecture: Architecture) -> Iterator[Problem]:
    longest = architecture.max_position_embeddings
    if config.max_seq_len > longest:
        what = f"sequences of {config.max_seq_len} tokens, the model takes {longest}"
        yield Problem(what, "max_seq_len", f"use max_seq_len={longest} or less")
    if config.compile:
        what = "runplan does not know the memory and speed of compiled models with TRL"
        yield Problem(what, "compile", f"use compile=false, {OTHER}")
    if config.trainer.activation_offloading:
        what = "runplan does not know the memory of activation offloading with TRL"
        yield Problem(what, "trainer.activation_offloading", f"use trainer.activation_offloading=false, {OTHER}")
    if not config.trainer.shuffle and config.resources.gpus > 1:
        what = "rows in the order of the file on several GPUs, which runplan has not seen TRL do"
        yield Problem(what, "trainer.shuffle", f"use trainer.shuffle=true or resources.gpus=1, {OTHER}")


def complete_trainer_defaults(config: Config, architecture: Architecture) -> Config:  # noqa: ARG001 - every trainer's
    """The configuration with what the user left open (checkpointing, compile, dtype) as TRL ships it.

    Read in `trl/trainer/base_config.py` of 1.16.0: gradient checkpointing and bf16 are on for all models. Weights are
    loaded in the format that is computed in. Where bf16 has no hardware (and on CPUs, where it is slower) fp32 is the
    default.
    """
    bf16 = config.resources.supports_bf16 and config.trainer.device == "cuda"
    return replace(
        config,
        activation_checkpointing=True if config.activation_checkpointing is None else config.activation_checkpointing,
        compile=False if config.compile is None else config.compile,
        dtype=(Dtype.bf16 if bf16 else Dtype.fp32) if config.dtype is None else config.dtype,
    )


def model_findings(model: ModelFacts) -> tuple[Finding, ...]:
    """What keeps TRL from training a model as planned here; nothing of one whose architecture is not known."""
    if model.architecture is None or model.architecture.family in FAMILIES:
        return ()
    known = ", ".join(sorted(FAMILIES))
    what = f"runplan plans no TRL runs of {model.architecture.family} models: it has no chat format of theirs"
    other = f", {OTHER}" if model.architecture.family in LLAMA else ""
    return (Finding(Status.invalid, what, f"use one of {known}{other}"),)
