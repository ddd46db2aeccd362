"""The sources of webhooks: who sends them, how they are verified and parsed. SOURCES is the registry.

The receiver serves `POST /webhooks/<name>` for each entry, and the metrics have the name as a label. A new source is a
module here, a line in SOURCES and, if it needs settings, fields in `SourceSettings`.
"""

from collections.abc import Mapping
from typing import Final, Protocol, Self

from handlers.sources.fal import FalSource
from handlers.sources.settings import SourceSettings
from handlers.sources.supabase import SupabaseSource
from schemas.events import CompletedGeneration, IgnoredWebhook
from schemas.jobs import NamedGeneration


class WebhookSource(Protocol):
    """One sender of webhooks. `name` is the last segment of its route, and a value of `schemas.jobs.Origin`."""

    name: str

    @classmethod
    def from_settings(cls, settings: SourceSettings) -> Self:
        """Return the source with the configured secrets or keys."""

    async def keep_ready(self) -> None:
        """Renew in the background what `verify` needs, until cancelled. Returns if there is nothing to renew."""

    def check_headers(self, headers: Mapping[str, str]) -> bool:
        """Check the proof in the headers, before any of the body is read.

        Return True if the headers alone prove the sender, False if a signature remains to be verified with the body.

        Raises:
            RejectedError: the proof is missing, malformed, wrong or too old.
            ClosedError: the source accepts nothing, because a setting is missing.
        """

    async def verify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Verify the sender of the raw `body`, before the body is parsed. Includes `check_headers`.

        Raises:
            RejectedError, ClosedError: as `check_headers`. RejectedError also for a wrong signature of the body.
            VerifierUnavailableError: the sender cannot be verified at the moment.
        """

    def parse(self, body: bytes) -> CompletedGeneration | IgnoredWebhook:
        """Parse a verified body; raise UnreadableError that names the field and the remedy."""

    def named_generation(self, query: Mapping[str, str]) -> NamedGeneration | None:
        """Return the generation that the query of the webhook's address names, or None; raise UnreadableError."""


SOURCES: Final[tuple[type[WebhookSource], ...]] = (SupabaseSource, FalSource)
