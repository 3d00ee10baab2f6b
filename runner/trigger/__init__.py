"""What GitHub tells (events, comments) and what the base branch allows -> what is to be done: pure."""

from runner.trigger.event import Button, Comment, Dispatch, Event, Push, Schedule, read
from runner.trigger.roles import Role, allows

__all__ = ["Button", "Comment", "Dispatch", "Event", "Push", "Role", "Schedule", "allows", "read"]
