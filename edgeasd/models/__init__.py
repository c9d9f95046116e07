"""Model files and calibration files: reading, trying and holding them, and a detector made of both.

It may import `baseline`, `detect` and `common`.  The models that come with edgeasd lie here.
"""
