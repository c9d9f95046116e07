"""What normal is: statistics of normal sound, learning and adapting them, the false-alarm rate.

It is pure, like `edgeasd.detect`, which it may import.
"""
