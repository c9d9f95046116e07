"""Data sets: their layouts, splits, and the log-mel windows of their clips."""
