"""`edgeasd check`: configuration, models, microphones, broker, a verdict a line."""
