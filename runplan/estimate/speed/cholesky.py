"""Systems of linear equations with a covariance matrix of at most some dozens of rows: no numpy is worth its import."""

from __future__ import annotations

import math
from collections.abc import Sequence


def cholesky(matrix: list[list[float]]) -> list[list[float]]:
    """The lower triangular factor of a symmetric positive definite matrix."""
    n = len(matrix)
    factor = [[0.0] * n for _ in range(n)]
    for i in range(n):
        for j in range(i + 1):
            rest = matrix[i][j] - sum(factor[i][k] * factor[j][k] for k in range(j))
            factor[i][j] = math.sqrt(max(rest, 1e-12)) if i == j else rest / factor[j][j]
    return factor


def forward(factor: list[list[float]], right: Sequence[float]) -> list[float]:
    """The x for which factor x = right."""
    solved: list[float] = []
    for row, value in zip(factor, right, strict=True):
        n = len(solved)
        solved.append((value - sum(a * b for a, b in zip(row[:n], solved, strict=True))) / row[n])
    return solved


def backward(factor: list[list[float]], right: Sequence[float]) -> list[float]:
    """The x for which (transposed factor) x = right."""
    n = len(right)
    solved = [0.0] * n
    for i in reversed(range(n)):
        rest = right[i] - sum(factor[j][i] * solved[j] for j in range(i + 1, n))
        solved[i] = rest / factor[i][i]
    return solved
