"""Recordings: WAV and FLAC files as a source, and whole for those who learn and evaluate."""
