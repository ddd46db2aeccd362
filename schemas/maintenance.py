"""The messages of the maintenance queue. Each is handled by one worker."""

from datetime import datetime
from typing import Final, Literal

from schemas.base import Frozen

MAINTENANCE_PREFIX: Final = "outlast.maintenance."
MAINTENANCE_TYPE: Final = f"{MAINTENANCE_PREFIX}v1"

Action = Literal["remove_orphans", "expire", "optimize"]
"""Remove unreferenced objects; remove expired rows; compress images again that have another profile."""


class Maintenance(Frozen):
    """The body of a maintenance message (`type=outlast.maintenance.v1`). `slot` is the time it was scheduled for."""

    action: Action
    slot: datetime
