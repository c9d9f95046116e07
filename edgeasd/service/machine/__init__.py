"""One machine: the thread that listens to it, its health, and what is told about it."""
