"""Listens to machines and says when one stops sounding like itself."""

__version__ = "0.1.0"
