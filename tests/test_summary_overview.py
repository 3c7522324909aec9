"""Column headers of the summary."""

from __future__ import annotations

from runplan.summary.overview import labels


def test_columns_have_names_of_their_own():
    assert labels(["seed", "optimizer.lr"]) == {"seed": "Seed", "optimizer.lr": "Learning Rate"}
    assert labels(["seed", "dataset.seed"]) == {"seed": "seed", "dataset.seed": "dataset.seed"}
