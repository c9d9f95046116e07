"""What developers run: ``make generate`` writes the files that are made from the code."""
