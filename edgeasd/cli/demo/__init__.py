"""`edgeasd demo`: the daemon on a simulated machine, with an embedded broker."""
