"""Alarm out: topics, payloads, the outbox on disk, the broker, the clips of alarms.

It may import what stands below it, and knows nothing of the daemon.
"""
