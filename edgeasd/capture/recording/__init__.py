"""Recordings: WAV and FLAC files as a source of sound, and as a whole for the offline commands.

It may import `edgeasd.common` and the rest of `capture`.
"""
