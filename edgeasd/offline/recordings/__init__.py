"""Recordings named on a command line, and the folder into which `edgeasd record` writes."""
