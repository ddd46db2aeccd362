"""Finds the files of a job whose URLs always have the same content."""

from collections.abc import Iterable
from typing import Final

from handlers.download.allowlist import Allowlist
from handlers.settings import MediaSettings
from schemas.jobs import JobFile

NO_SOURCE: Final = "none"


class ImmutableSources:
    """The parsed IMMUTABLE_SOURCES. The constructor raises ValueError for an invalid entry.

    Two URLs with the same source key differ at most in the parameters that sign the link, in the order of the other
    parameters, in the fragment, or in the name of FAL's host, which has two. So on these sources, files with the same
    source key have the same content.
    """

    def __init__(self, settings: MediaSettings) -> None:
        entries = tuple(entry for entry in settings.immutable_sources if entry != NO_SOURCE)
        self._immutable = Allowlist(entries, setting="IMMUTABLE_SOURCES")
        self._allowed = Allowlist(settings.source_allowlist)
        self.max_file_bytes = settings.max_file_bytes

    def keys(self, files: Iterable[JobFile]) -> list[str]:
        """Return the source keys of the files that are on IMMUTABLE_SOURCES and on SOURCE_ALLOWLIST.

        `data:` URIs, references to them, and placeholders have no source, so their keys are not among these.
        """
        return [
            file.source_key for file in files if self._immutable.contains(file.url) and self._allowed.contains(file.url)
        ]
