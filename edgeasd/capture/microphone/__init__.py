"""Microphones: which one a name means, one reader for each device, and the search for lost ones.

It may import `capture.ringbuffer` and `common`.  Others use `channel.Microphone`, and
`portaudio.list_devices` with the names in `devices`; only `portaudio` talks to the audio library.
"""
