"""Bytes of a training step by the moments at which they may peak."""

from __future__ import annotations

from dataclasses import dataclass, field

LOSS = 0
"""Which of torchtune's moments is the loss."""

KEPT = 0.25
"""The part of runs that keep embedding and output gathered through the loss: with torch up to 2.7. Since 2.8 they are
resharded, as torchtune asks (pytorch/pytorch#154704). A plan does not know its torch; runplan's extra has 2.13."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step: what is always there, and what each possible peak adds.

    A moment is (bytes, bytes per token); the peak is the largest moment.
    """

    fixed: float
    moments: tuple[tuple[float, float], ...]
    per_position: float
    """Bytes for every position of the sequence, whatever the batch (Qwen's RoPE tables in the number format)."""
    per_pair: float
    """Bytes for every pair of positions of every sequence (a dense mask of packed rows)."""
    chunks: int = 0
    """Pieces in which the loss takes a sequence. Above 0 the first two moments are forward and backward in the loss,
    and say what they take with pieces of one size."""
    in_chunk: tuple[float, float] = (0.0, 0.0)
    """What a token of the piece that the loss is at adds in them, which is in `moments`, too."""

    root: float = field(default=0.0, kw_only=True)
    """Bytes of embedding and output where FSDP gathers them."""
    block: float = field(default=0.0, kw_only=True)
    """Bytes of one block where FSDP gathers it."""

    def peak_bytes(self, batch: int, tokens: int) -> float:
        """Allocated bytes at the peak with `batch` sequences padded to `tokens`."""
        moment = max(self._sizes(batch, tokens))
        return self.fixed + moment + self.per_position * tokens + self.per_pair * batch * tokens * tokens

    def kept_bytes(self, batch: int, tokens: int) -> float:
        """By how much the peak is higher where FSDP keeps embedding and output gathered through the loss."""
        if not self.root:
            return 0.0
        sizes = self._sizes(batch, tokens)
        return max(0.0, sizes[LOSS] + self.root - max(sizes))

    def held_bytes(self, batch: int, tokens: int, part: float) -> float:
        """What the allocator holds in vain beside the peak.

        On one GPU a part of what comes and goes. On several it is the same part of what the loss needs, and weights:
        they arrive in one piece, on a stream of their own (`foreach_all_gather`), whose segments no other stream uses,
        so that those of the root and of a block are there beside the loss, and the root itself where it is kept. So
        says a replay with a pool for every stream (8B on four GPUs: 2.4 GiB of 13.1 or of 15.1).

        Args:
            batch: sequences.
            tokens: of each.
            part: `allocator.held_part`.
        """
        freed = self.peak_bytes(batch, tokens) - self.fixed
        if not self.root:
            return part * freed
        loss = self.loss_bytes(batch, tokens)
        return max(0.0, loss + (1 + KEPT) * self.root + self.block - freed) + part * loss

    def loss_bytes(self, batch: int, tokens: int) -> float:
        """Bytes that come and go at the loss."""
        return self._sizes(batch, tokens)[LOSS]

    def _sizes(self, batch: int, tokens: int) -> list[float]:
        sizes = [extra + per_token * batch * tokens for extra, per_token in self.moments]
        if self.chunks:
            for i, piece in enumerate(_pieces(tokens, self.chunks)):
                sizes[i] += self.in_chunk[i] * batch * (piece - tokens / self.chunks)
        return sizes


@dataclass(frozen=True)
class ValidationFootprint(Footprint):
    """Bytes while a batch is validated: the loss keeps nothing of a piece, and the first is the largest."""

    def _sizes(self, batch: int, tokens: int) -> list[float]:
        sizes = [extra + per_token * batch * tokens for extra, per_token in self.moments]
        if self.chunks:
            sizes[LOSS] += self.in_chunk[0] * batch * (-(-tokens // self.chunks) - tokens / self.chunks)
        return sizes


def _pieces(tokens: int, chunks: int) -> tuple[float, float]:
    """Tokens that count as the loss's piece in its forward and backward peak.

    `Tensor.chunk` makes pieces of one size, rounded up, and a smaller last one (or fewer pieces). Forward peaks at the
    last piece or at the one before, when the last one's results are not there yet; backward goes the other way.
    """
    whole = -(-tokens // chunks)
    last = tokens - whole * (-(-tokens // whole) - 1)
    before = whole if tokens > whole else 0
    return max(last, before - last), max(last, before - last / 2)
