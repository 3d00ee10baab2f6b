"""A line of the store's stream -> a checked point; apart, since pydantic takes long to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SavedPoint(BaseModel):
    """A point as `encode` writes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    step: int
    value: float
    time_s: float
