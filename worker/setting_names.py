"""Names in the environment and in `.env` that are no settings, and the setting that each may have been meant to be."""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dotenv import dotenv_values

from worker.settings import Settings

ENV_FILE: Final = Path(".env")
SIMILARITY: Final = 0.85
"""How similar a name must be to a setting's to count as misspelt, from 0 to 1."""
NAMES_OF_OTHER_PROGRAMS: Final = frozenset(
    {
        *("RABBITMQ_PASSWORD", "GRAFANA_PASSWORD", "RECEIVER_ADDRESS", "OUTLAST_VERSION"),
        *("RUNBOOK_URL", "ALERTMANAGER_CONFIG", "ALERTMANAGER_USER"),
        *("RABBITMQ_USER", "RABBITMQ_HOST", "RABBITMQ_PORT", "SUPABASE_ANON_KEY", "SUPABASE_DB_URL"),
    }
)
"""Names of deploy/compose.yml and of other programs that resemble a setting."""


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that is no setting. `nearest` is the setting that it resembles; None if it resembles none."""

    name: str
    place: str
    nearest: str | None

    def __str__(self) -> str:
        if self.nearest is None:
            return f"{self.name} in {self.place} is no setting"
        return f"{self.name} in {self.place} is no setting; did you mean {self.nearest}?"


def origin(name: str) -> str:
    """Return where the value of a setting comes from: `environment`, `.env` or `default`. Empty values do not count."""
    if any(os.environ.get(form) for form in (name.upper(), name.lower())):
        return "environment"
    values = {key.upper(): value for key, value in _env_file().items()}
    return str(ENV_FILE) if values.get(name.upper()) else "default"


def unknown_names() -> list[UnknownName]:
    """Return the names in `.env` that are no settings, and those in the environment that resemble one."""
    found = list(_unknown(_env_file(), str(ENV_FILE)))
    return found + [name for name in _unknown(os.environ, "the environment") if name.nearest is not None]


def misspelt_names() -> list[UnknownName]:
    """Return the names that resemble a setting."""
    return [name for name in unknown_names() if name.nearest is not None]


def _unknown(names: "os._Environ[str] | dict[str, str | None]", place: str) -> Iterator[UnknownName]:
    settings = [name.upper() for name in Settings.model_fields]
    for name in sorted(names):
        if name.upper() not in settings and name.upper() not in NAMES_OF_OTHER_PROGRAMS:
            nearest = difflib.get_close_matches(name.upper(), settings, n=1, cutoff=SIMILARITY)
            yield UnknownName(name, place, nearest[0] if nearest else None)


def _env_file() -> dict[str, str | None]:
    return dotenv_values(ENV_FILE) if ENV_FILE.is_file() else {}
