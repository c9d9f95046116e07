"""The model: its document, its geometry, and the network that scores windows.

Only `network` talks to ONNX Runtime.
"""
