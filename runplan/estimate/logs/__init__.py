"""What an earlier log is to every estimate: its settings, the figures in it that count, which logs repeat others."""
