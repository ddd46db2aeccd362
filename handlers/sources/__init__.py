"""The senders of "generation completed" webhooks. SOURCES is their registry.

The receiver serves `POST /webhooks/<name>` for each entry, and the metrics have its name as a label. A new source is a
module here, a line in SOURCES and, if it needs settings, fields in `SourceSettings`.
"""

from collections.abc import Mapping
from typing import Final, Protocol, Self

from handlers.sources.fal import FalSource
from handlers.sources.settings import SourceSettings
from handlers.sources.supabase import SupabaseSource
from schemas.events import CompletedGeneration, IgnoredWebhook


class WebhookSource(Protocol):
    """One sender of webhooks. `name` is the last segment of its route, and a value of `schemas.jobs.Origin`."""

    name: str

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """Return the source with the configured secrets or keys."""

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the sender of the raw `body`, before it is parsed.

        Raises:
            RejectedError: the secret or signature is missing, wrong or too old.
            VerifierUnavailableError: the sender cannot be verified at the moment.
        """

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Parse a verified body; raise UnreadableError that names the field and the remedy."""


SOURCES: Final[tuple[type[WebhookSource], ...]] = (SupabaseSource, FalSource)
