"""Clips: the sound around the start of an alarm, cut from the stream and kept in a bounded folder.

Others use `recorder` (one for each machine), `writer` (one for the node) and, to find clips,
`folder`.
"""
