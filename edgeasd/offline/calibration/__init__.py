"""Sets the threshold of a machine by normal sound, and adds new sound to what is normal.

It may import all but `service` and `cli`.  The commands use `calibrate` and `add_references`.
"""
