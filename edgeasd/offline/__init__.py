"""Work on recordings: replay, learning, calibration, explanation.

It may import all but `service` and `cli`.
"""
