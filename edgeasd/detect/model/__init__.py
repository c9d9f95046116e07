"""The model: its document, its geometry, and the network that runs on windows.

A model comes as the bytes of a file; `edgeasd.models` reads files.  Only `network` talks to ONNX
Runtime.
"""
