"""What all sections of train.yml have in common: frozen, typed strictly, no unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One mapping of train.yml. Dumped with `mode="json"` it is again what train.yml would say."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        defer_build=True,
        allow_inf_nan=False,
        serialize_by_alias=True,
    )
