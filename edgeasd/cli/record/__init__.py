"""`edgeasd record`: normal sound of a machine into a folder of clips."""
