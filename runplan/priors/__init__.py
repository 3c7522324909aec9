"""Earlier runs, read from their logs."""
