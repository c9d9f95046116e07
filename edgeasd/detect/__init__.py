"""Sound to alarm: pure, deterministic, and shared with the trainer."""
