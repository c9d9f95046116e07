"""The report of a run: one HTML page with its pictures.

It may import `train.data`, `train.scoring` and `train.runs`.  Others call `page.write_report`.
"""
