"""The command line: what people type, and what they see.

`edgeasd NAME` is in `NAME/command.py` (check, demo, listen with devices, record, watch), in
`offline.py` (score, explain, learn, calibrate, model) or in `main.py` (run).  This folder may
import all others; only the entry point imports it.
"""
