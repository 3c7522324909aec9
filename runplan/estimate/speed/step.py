"""The optimizer step of a workload, as far as it decides speed."""

from __future__ import annotations

from dataclasses import dataclass

from runplan.estimate import steps
from runplan.estimate.workload import TRL, Adapter, Gpu, Workload
from runplan.facts import Architecture

FLEX_BLOCK = 128
"""Flex attention computes whole blocks of so many tokens by as many."""


@dataclass(frozen=True)
class Step:
    """One optimizer step of a run, as far as it decides speed."""

    architecture: Architecture
    adapter: Adapter
    gpu: Gpu
    gpus: int
    dtype: str
    checkpointing: bool
    compile: bool
    packed: bool
    batch: int
    tokens: float
    """Mean padded length of a sequence; on several GPUs that of the GPU with the longest, since all wait for it."""
    span: float
    """Mean tokens that a token could attend to: the sequence, or the row within a pack."""
    accumulation: int = 1
    trainer: str = "torchtune"
    """Whose kernels run: torchtune's, or TRL's."""
    varied: float = 0.0
    """Part of the run's batches of a length that was not met before, or not lately; counted for bf16 on processors."""


def planned_step(w: Workload, batch: int, accumulation: int) -> Step:
    """One optimizer step of a workload."""
    if w.trainer == TRL and w.lengths.rows:
        tokens, span = _trl_tokens(w, batch)
    elif w.packed or not w.lengths.rows:
        tokens = float(w.max_seq_len)
        span = packed_span(tokens, w.lengths.mean or tokens)
    else:
        # FSDP's layers wait for those of the other GPUs, so for the longest row of all batches.
        tokens = steps.padded_length(w.lengths, batch * w.gpus)
        span = tokens / 2
    return Step(
        w.architecture,
        w.adapter,
        w.gpu,
        w.gpus,
        w.dtype,
        w.activation_checkpointing,
        w.compile,
        w.packed,
        batch,
        tokens,
        span,
        accumulation,
        trainer=w.trainer,
        varied=_varied(w, batch, accumulation),
    )


def _varied(w: Workload, batch: int, accumulation: int) -> float:
    if w.gpu.name != "cpu" or w.dtype == "fp32" or w.packed or not w.lengths.rows:
        return 0.0
    counted = steps.optimizer_steps(w.lengths.rows, batch, w.gpus, accumulation, w.max_steps_per_epoch, w.trainer)
    return steps.new_lengths(w.lengths, batch, counted.batches_per_epoch * w.epochs)


def packed_span(tokens: float, row: float) -> float:
    """Mean tokens that a token of a packed sequence attends to, as flex attention computes them.

    A block of tokens is computed with all blocks from where its first token's row begins: its own, those that half a
    row fills, and half of one more, as rows begin anywhere. Where the row is the sequence it begins with a block.

    Args:
        tokens: of the sequence.
        row: mean tokens of the rows in it; 0 where nobody knows, which stands for half of the sequence.
    """
    most = (tokens + FLEX_BLOCK) / 2
    return min(most, max(1.0, row) / 2 + 1.5 * FLEX_BLOCK) if row else tokens / 4


def mean_tokens(w: Workload, step: Step) -> float:
    """Mean padded length of a sequence, of all GPUs: where they wait for the longest, less than the step's."""
    if w.gpus == 1 or w.packed or w.trainer == TRL or not w.lengths.rows:
        return step.tokens
    return steps.padded_length(w.lengths, step.batch)


def _trl_tokens(w: Workload, batch: int) -> tuple[float, float]:
    """Tokens of a sequence, and how many of them a token is multiplied with: with a mask all, else half of them.

    Rows of one batch that differ in length have a mask, and packs, which are one sequence without padding.
    """
    if w.packed:
        packs = steps.sequences(w.lengths, w.max_seq_len, packed=True, trainer=TRL)
        tokens = w.lengths.cut(w.max_seq_len).tokens / packs
        return tokens, batch * tokens
    tokens = steps.padded_length(w.lengths, batch)
    return tokens, tokens if batch > 1 else tokens / 2
