"""From override lines to composed, typed runs: where Hydra is met, with its errors in our words."""
