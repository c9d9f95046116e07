"""Live: the daemon, its machines, and what it tells about them.

It may import every folder but `cli` and `offline`.  Within it, `daemon` stands above `machines`,
that above `machine` and `reload`, those above `node`, and `process` below all of them.  Others make
a `daemon.Daemon`; commands also use `process` for the journal and the limits of the service.
"""
