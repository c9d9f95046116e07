"""The configuration: its keys with their rules and descriptions, and the file that holds them.

The example configuration, its schema and docs/configuration.md are made from `keys`.
"""
