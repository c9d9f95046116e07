"""Clips of alarms: the sound around an event, as files with an age and a bounded folder."""
