"""The threshold from normal sound and a false-alarm budget, from recordings or from live sound."""
