"""Who tells us that a generation is complete. Each source verifies the raw bytes first, then parses them.

`POST /webhooks/<name>` serves each of SOURCES; a new one is a module here and a line there.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from handlers.sources.fal import FalSource
from handlers.sources.supabase import SupabaseSource
from schemas.events import CompletedGeneration, IgnoredWebhook


class WebhookSource(Protocol):
    """A sender of webhooks."""

    name: str

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Check who sent `body`; raise RejectedError, or VerifierUnavailableError when that cannot be told now."""

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Read a verified body; raise UnreadableError that names the field and the remedy."""


SOURCES: Final[tuple[type[WebhookSource], ...]] = (SupabaseSource, FalSource)
