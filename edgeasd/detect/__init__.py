"""Sound to alarm: features, windows, median filter, network, clip score, alarm.

It is pure: no input or output, no clock, no thread.  It may import `edgeasd.common` alone; what
others use is `pipeline.Pipeline` and the stages for the trainer.
"""
