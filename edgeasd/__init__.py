"""Listens to machines and says when one stops sounding like itself."""

import os

__version__ = "0.2.0"

# ONNX Runtime 1.29 and later keep a number for this computer and report each process to their maker
# over the internet, unless this is set before they are loaded.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
