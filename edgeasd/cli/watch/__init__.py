"""`edgeasd watch`: all machines of a broker in one picture."""
