"""The report of a run: a page with its pictures."""
