"""The base class of the schemas."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """An immutable record. Unknown fields are ignored, so an older version can read a newer version's data."""

    model_config = ConfigDict(frozen=True, extra="ignore")
