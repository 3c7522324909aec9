"""The moments of a training step of torchtune 0.6.1 at which its memory may peak.

A moment is (bytes, bytes a token) beside what is always there. On several GPUs weights come and go as FSDP2 gathers
them: a block's weights arrive in one piece and are copied to its parameters, and the next block's are fetched while it
works. In forward what has arrived is let go when the next block's is copied; in backward, at once. The root (embedding
and output) is sharded again after the forward pass, gathered when the loss is through, and there until the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from runplan.estimate.memory import activations, nf4
from runplan.estimate.memory.sharding import Sharded
from runplan.estimate.memory.weights import ELEMENT_BYTES, adapted_shapes, adapter_params, quantised_shapes
from runplan.estimate.workload import Adapter
from runplan.facts import Architecture

Moment = tuple[float, float]
_FP32 = 4
_IDS = 24
"""Bytes of a token and its label, integers of 8, and of the labels' shifted copy."""
_STASHED = 5
"""Tensors on their way to the host that are still on the GPU (`OffloadActivations`, `max_fwd_stash_size`)."""


@dataclass(frozen=True)
class Step:
    """What decides the memory of a training step."""

    a: Architecture
    adapter: Adapter
    dtype: str
    chunks: int
    gpus: int
    checkpointing: bool
    packed: bool
    accumulated: bool
    compiled: bool
    shards: Sharded
    offloaded: bool = False
    """Whether inputs of recomputed blocks wait in host memory."""

    @cached_property
    def e(self) -> int:
        """Bytes of a number."""
        return ELEMENT_BYTES[self.dtype]

    @cached_property
    def stored(self) -> float:
        """Bytes a token that a recomputed block keeps: its input."""
        return self.e * self.a.hidden_size if self.checkpointing else 0.0

    @cached_property
    def kept(self) -> float:
        """Bytes a token that a block has for its backward pass."""
        of = activations.compiled_layer_bytes if self.compiled else activations.layer_bytes
        return of(self.a, self.adapter, self.dtype, self.packed)

    @cached_property
    def shared(self) -> float:
        """What of a recomputed block's input its norm keeps, too: in fp32 it is the very one."""
        return self.stored if self.dtype == "fp32" else 0.0

    @cached_property
    def spared(self) -> float:
        """What the first block need not keep."""
        return 0.0 if self.compiled else activations.first_layer_bytes(self.a, self.adapter, self.e, self.packed)

    def held(self, blocks: int) -> float:
        """Bytes a token in backward of a block when it and the ones before are left, so many in all."""
        if not self.checkpointing:
            return blocks * self.kept - self.spared
        here = 1 if self.offloaded else blocks
        return here * self.stored - self.shared + self.kept - self.spared * (blocks == 1)

    @cached_property
    def in_head(self) -> float:
        """Bytes a token in the output head: what blocks keep, and the input of the final norm."""
        blocks = self.a.num_hidden_layers
        # Of what goes to the host the last five tensors are still here (`_STASHED`): four are the norm's.
        through = (1 if self.offloaded else blocks) * self.stored if self.checkpointing else self.held(blocks)
        return through + _FP32 * self.a.hidden_size + 4 + activations.output_bytes(self.a, self.adapter, self.e)

    @cached_property
    def norm_brought_back(self) -> float:
        """Bytes a token of the final norm's input in fp32 and its gradient; in fp32 the input is still there."""
        return self.e * self.a.hidden_size + (0.0 if self.dtype == "fp32" else _FP32 * self.a.hidden_size + 4)

    @cached_property
    def unpacked(self) -> tuple[float, float]:
        """Bytes of unpacked weights that compiled QLoRA keeps, inside a block and throughout."""
        whole = self.e * nf4.elements(quantised_shapes(self.a, self.adapter))
        return nf4.kept_bytes(whole, self.a.num_hidden_layers, self.checkpointing, self.compiled)

    def gathered(self, blocks: int) -> float:
        """Bytes gathered in backward of a block when so many are left: its own, and the next one's, prefetched."""
        return self.shards.root + self.shards.block * (1 + (blocks > 1)) + self.shards.root_trained

    def gradients(self, blocks: int) -> float:
        """Bytes of the adapters' gradients before backward of a block when so many are left.

        On several GPUs, what each has left to one of them, and what was sent away last, which waits for the next.
        """
        done = self.a.num_hidden_layers - blocks
        own = self.trained_in_block / self.gpus
        return (0.0 if self.accumulated else done * own) + (self.shards.block_trained if done else 0.0)

    @cached_property
    def trained_in_block(self) -> float:
        """Bytes of a block's adapters, all GPUs together."""
        if self.gpus > 1:
            return self.shards.block_trained
        return self.e * adapter_params(self.a, self.adapter) / self.a.num_hidden_layers

    @cached_property
    def first_gradients(self) -> float:
        """Bytes of a block's first gradients, where they are new."""
        new = self.gpus > 1 or not self.accumulated
        return activations.first_gradient_bytes(self.a, self.adapter, self.e) if new else 0.0


def moments(step: Step) -> tuple[Moment, ...]:
    """All of them; the first two are forward and backward in the loss."""
    found = (*_in_head(step), *_in_blocks(step), *_when_gathering(step), *_unpacking(step))
    return tuple((extra, per_token + _IDS) for extra, per_token in found)


def _in_head(s: Step) -> Iterator[Moment]:
    a, e = s.a, s.e
    through, logits = s.unpacked[1], e * a.vocab_size
    forward, backward = activations.head_bytes(a, s.dtype, s.chunks, s.compiled)
    yield through, s.in_head + forward
    yield through, s.in_head + backward
    # All pieces of the loss are through before the root is gathered: what has arrived, and the copy of it.
    yield 2 * s.shards.root + through, s.in_head + logits
    there = s.shards.root + s.shards.block + through
    yield there, s.in_head + logits + e * a.hidden_size / max(s.chunks, 1)
    yield there + activations.identity_bytes(a, s.adapter, e)[1], s.in_head + logits
    if s.chunks == 0 and s.adapter.use_dora and s.adapter.apply_to_output:
        # Gradients of both outputs, each scaled, in one piece; one less where there are few tokens (2048 of 8B).
        yield through, s.in_head + 4 * logits
    later = 0 if s.compiled else _FP32 * a.vocab_size
    yield there + 2 * activations.output_gradient_bytes(a, s.adapter, e), s.in_head + later


def _in_blocks(s: Step) -> Iterator[Moment]:
    """Backward of the last block, of the second and of the first one."""
    a, d = s.a, s.e * s.a.hidden_size
    layers = a.num_hidden_layers
    inside = activations.block_backward_bytes(a, s.adapter, s.e)
    identity = activations.identity_bytes(a, s.adapter, s.e)[0] + s.unpacked[1]
    again, third = (s.checkpointing * part for part in activations.block_recomputed_bytes(a, s.adapter, s.e))
    copied = 0.0 if s.dtype == "fp32" else d  # the gradient in fp32 becomes one in the number format
    scaled = d if s.adapter.apply_to_mlp else 0.0  # the gradient that the last adapter's product gets, made of it
    for left in sorted({layers, min(layers, 2), 1}):
        there, last = s.gathered(left) + s.gradients(left), left == layers
        part = 1.0 if s.checkpointing else left / layers
        yield there + (0.0 if last else s.first_gradients) + part * s.unpacked[0], s.held(left) + inside
        # What was brought back from the host goes when the next node, this block's first, is through.
        back = (s.norm_brought_back if last else s.stored) * s.offloaded
        if last:
            yield there + identity, s.held(left) + d + scaled * s.checkpointing + again + back
            yield there + s.unpacked[1], s.held(left) + d + scaled * s.checkpointing + third + back
        elif s.checkpointing:
            more = max(copied, scaled) if left > 1 else 0.0
            yield there + identity, s.held(left) + back + (d + more + again if left > 1 else d)
            yield there + s.unpacked[1], s.held(left) + back + d + third + more
    yield s.gradients(0) + (s.trained_in_block if s.gpus > 1 else 0.0), 0.0


def _when_gathering(s: Step) -> Iterator[Moment]:
    if s.gpus > 1:
        d = s.e * s.a.hidden_size
        yield 2 * (s.shards.root + s.shards.block), d
        blocks = s.a.num_hidden_layers - 1
        kept = (min(_STASHED, blocks) if s.offloaded else blocks) * (s.stored or s.kept)
        yield s.shards.root + 3 * s.shards.block + s.unpacked[1], kept - (0 if s.checkpointing else s.spared) + d


def _unpacking(s: Step) -> Iterator[Moment]:
    """QLoRA's: the largest weight is unpacked in a block's backward, or a weight is loaded."""
    layers = s.a.num_hidden_layers
    blocks = [(s.gathered(left) + s.gradients(left), s.held(left)) for left in (layers, min(layers, 2), 1)]
    early = s.shards.root_trained + s.trained_in_block  # those of the first block, all of which may be there
    blocks[2] = (blocks[2][0] + (0.0 if s.gpus == 1 and s.accumulated else early), blocks[2][1])
    shapes = quantised_shapes(s.a, s.adapter), adapted_shapes(s.a, s.adapter)
    trained = layers * s.trained_in_block / s.gpus * (2 + s.accumulated)  # and their moments: not there yet
    yield from nf4.moments(s.a, s.adapter, s.e, shapes, blocks, (trained, s.checkpointing, s.compiled))


def validation_moments(step: Step) -> tuple[Moment, ...]:
    """Those of a batch that is validated, without gradients; the first is the loss, one piece after the other."""
    s, a, e = step, step.a, step.e
    d, root, block = e * a.hidden_size, s.shards.root, s.shards.block
    logits = float(e * a.vocab_size) if s.chunks else activations.head_bytes(a, s.dtype, 0, s.compiled)[0]
    added = 2 * e * a.vocab_size / max(s.chunks, 1) * s.adapter.apply_to_output  # the adapter's product, and the sum
    inside, in_head = activations.identity_bytes(a, s.adapter, e)
    found = [
        (0.0, logits + activations.validated_piece_bytes(a, s.dtype, s.chunks, s.compiled)),
        (root + block + in_head, logits + added + 2 * d),
        (root + 2 * block, 2 * d + activations.validated_block_bytes(a, s.adapter, e)),
        (root + 2 * block + inside, 4 * d + e * a.intermediate_size * s.adapter.apply_to_mlp),
        (root + 3 * block, d),
        (2 * (root + block), d),
    ]
    shapes = quantised_shapes(a, s.adapter), adapted_shapes(a, s.adapter)
    if shapes[0] and not s.compiled:
        unpacking = nf4.largest_bytes(s.adapter, e, shapes)
        found.append((root + 2 * block + unpacking, 3 * d + e * a.intermediate_size))
    return tuple((extra, per_token + _IDS) for extra, per_token in found)
