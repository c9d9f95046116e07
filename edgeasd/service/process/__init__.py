"""The daemon as a process: service manager, signals, the lock on its state, its limits.

It may import `common` alone, as the command line does before there is a daemon.
"""
