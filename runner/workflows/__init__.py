"""A train.yml -> the workflow files that start it on GitHub, and what in them is out of step with it."""

from runner.workflows.blocks import renewed
from runner.workflows.files import ACTION, PERMISSIONS, Permission, Setting, Workflow, promotion, workflows

__all__ = [
    "ACTION",
    "PERMISSIONS",
    "Permission",
    "Setting",
    "Workflow",
    "promotion",
    "renewed",
    "workflows",
]
