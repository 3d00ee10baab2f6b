"""A run's logs -> its metrics: points as they are written, series, and the verdict on the primary one."""

from runner.metrics.mlflow import tracking_environment
from runner.metrics.points import Goal, Point, Series, decode, encode, series, steps_again
from runner.metrics.reader import Reader
from runner.metrics.verdict import Verdict, find, judge

__all__ = [
    "Goal",
    "Point",
    "Reader",
    "Series",
    "Verdict",
    "decode",
    "encode",
    "find",
    "judge",
    "series",
    "steps_again",
    "tracking_environment",
]
