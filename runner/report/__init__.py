"""Runs, models and comparisons -> what a person reads in a terminal or a pipe."""
