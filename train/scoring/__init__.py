"""Scores of clips, thresholds and metrics as in DCASE."""
