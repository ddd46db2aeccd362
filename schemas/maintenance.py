"""Upkeep that one of the workers does for all of them: the messages of the maintenance queue."""

from datetime import datetime
from typing import Final, Literal

from schemas.base import Frozen

MAINTENANCE_PREFIX: Final = "outlast.maintenance."
MAINTENANCE_TYPE: Final = f"{MAINTENANCE_PREFIX}v1"

Action = Literal["remove_orphans", "expire", "optimize"]
"""Remove objects nothing points at; remove rows nobody needs; store images better that another profile made."""


class Maintenance(Frozen):
    """The body of a maintenance message (`type=outlast.maintenance.v1`). `slot`: when it was called for."""

    action: Action
    slot: datetime
