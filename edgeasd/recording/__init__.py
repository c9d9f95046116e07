"""Normal sound of a machine, as clips in the folders that the trainer reads."""
