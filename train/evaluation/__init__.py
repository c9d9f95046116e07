"""Evaluation of runs, and the tables of the paper."""
