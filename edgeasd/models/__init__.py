"""Model files and calibration files: reading, trying and holding them, and a detector made of both.

It may import `baseline`, `detect` and `common`.  Others load a model with `cache.Models` and make a
`detector.Detector`, whose pipeline turns sound into detections.  The models that come with edgeasd
are here.
"""
