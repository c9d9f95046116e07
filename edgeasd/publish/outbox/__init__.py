"""The outbox: events on disk, in order, until the broker has acknowledged them.

Others use `outbox`, and `snapshot` to look at the outbox of a running daemon.  It may import
``common`` only.
"""
