"""The connection to the broker: accounts, limits, what comes in, and whether it stands.

Only `client` talks to the MQTT library.
"""
