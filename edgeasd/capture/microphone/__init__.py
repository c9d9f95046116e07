"""Microphones: the one thread of a device, its channels, and the search for one that is away.

Only `portaudio` talks to the audio library.
"""
