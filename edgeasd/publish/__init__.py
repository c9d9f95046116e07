"""Alarm out: payloads, the outbox on disk, delivery to the MQTT broker, and clips of alarms.

An event goes through `payloads` (what is said), `outbox` (on disk until it is acknowledged),
`delivery` (what is sent when) and `mqtt` (the connection).  `topics` names where to, `clips` keeps
the sound.  It may import the folders below it (``models`` to ``common``), and knows nothing of the
daemon.
"""
