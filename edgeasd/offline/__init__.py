"""Work on recordings: scores, learning, calibration, explanation.

It may import all but `service` and `cli`.  Each command uses one function of it.
"""
