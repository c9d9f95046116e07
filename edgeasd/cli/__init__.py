"""The command line: what people type, and what they see.

It may import everything, and nothing imports it but the entry point.
"""
