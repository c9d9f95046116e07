"""What every other part builds on: types of the stream, configuration, errors, text, files.

It imports nothing of edgeasd outside itself, and everything may import it.
"""
