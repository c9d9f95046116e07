"""One connection to an MQTT broker: credentials, limits, packets, and why it fails, in words.

Only `client` imports the MQTT library.  Others use `connection`, `faults`, `limits`, `credentials`
and `status`; nothing here knows of events or machines.
"""
