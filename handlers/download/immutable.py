"""Finds the files of a job whose URLs always have the same content."""

from collections.abc import Iterable
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from schemas.jobs import JobFile

NO_SOURCE: Final = "none"


class ImmutableSources:
    """The parsed IMMUTABLE_SOURCES. The constructor raises ValueError for an invalid entry.

    Two URLs with one source key differ at most in parameters that sign the link, the order of the others, the fragment,
    or which of two names of FAL's host they have. So on these sources one key has one content.
    """

    def __init__(self, settings: MediaSettings) -> None:
        entries = tuple(entry for entry in settings.immutable_sources if entry != NO_SOURCE)
        self._immutable = Allowlist(entries, setting="IMMUTABLE_SOURCES")
        self._allowed = Allowlist(settings.source_allowlist)
        self.max_file_bytes = settings.max_file_bytes

    def keys(self, files: Iterable[JobFile]) -> list[str]:
        """Return the source keys of the files that never change, and that may be downloaded.

        A `data:` URI, a reference to one, and a placeholder have no source, so they are not among them.
        """
        return [
            file.source_key for file in files if self._immutable.contains(file.url) and self._allowed.contains(file.url)
        ]
