"""Supabase, spoken to through its own client: tables, functions and Storage over one shared connection pool."""

import time
from pathlib import Path
from typing import Any, Final, Self

import httpx
from postgrest.exceptions import APIError
from storage3.exceptions import StorageApiError
from supabase import AsyncClient, AsyncClientOptions, acreate_client

from handlers.errors import DatabaseUnavailableError, StorageRejectedError, StorageUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings, SettingsError

CONFLICT: Final = 409
NOT_FOUND: Final = 404
TRANSIENT: Final = frozenset({408, 423, 425, 429})
SERVER_ERROR: Final = 500
STRANGE: Final = (httpx.HTTPError, httpx.InvalidURL, ValueError, TypeError, LookupError)
"""What else the client raises: connections that fail, and answers that are no JSON or not of the API's making."""
ONE_YEAR: Final = "31536000, immutable"
"""storage3 sends this as `cacheControl`; Storage serves it as `max-age=31536000, immutable`."""


class Supabase:
    """One project. The client is made on first use; `aclose` closes its connections."""

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        if settings.supabase_url is None or settings.supabase_service_role_key is None:
            raise SettingsError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: set both (Project settings, API)")
        self.bucket = settings.storage_bucket
        self._url = settings.supabase_url.rstrip("/")
        self._key = settings.supabase_service_role_key.get_secret_value()
        self._timeout = settings.storage_timeout_seconds
        self._observer = observer or Observer()
        self._http: httpx.AsyncClient | None = None
        self._client: AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        if self._http is not None:
            await self._http.aclose()
        self._http = self._client = None

    async def client(self) -> AsyncClient:
        """Return the supabase client."""
        if self._client is None:
            # HTTP/1.1: over HTTP/2 the platform is known to end connections in mid-air ("Server disconnected").
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout, connect=10), limits=httpx.Limits(max_connections=64), http2=False
            )
            options = AsyncClientOptions(httpx_client=self._http, auto_refresh_token=False, persist_session=False)
            self._client = await acreate_client(self._url, self._key, options)
        return self._client

    async def call(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON it returns
        """Call a database function; raise DatabaseUnavailableError when it gives no answer."""
        try:
            return (await (await self.client()).rpc(function, arguments).execute()).data
        except APIError as error:
            raise DatabaseUnavailableError(f"{function}: {_told(error)}") from error
        except STRANGE as error:
            raise DatabaseUnavailableError(f"{function}: {type(error).__name__} at SUPABASE_URL") from error

    async def row(self, schema: str, table: str, column: str, value: str) -> dict[str, Any] | None:
        """Return the first row where `column` is `value`; raise DatabaseUnavailableError when that cannot be told."""
        try:
            tables = (await self.client()).schema(schema)
            found = await tables.table(table).select("*").eq(column, value).limit(1).execute()
        except APIError as error:
            raise DatabaseUnavailableError(f"{table}: {_told(error)}") from error
        except STRANGE as error:
            raise DatabaseUnavailableError(f"{table}: {type(error).__name__} at SUPABASE_URL") from error
        row: dict[str, Any] | None = found.data[0] if found.data else None  # type: ignore[assignment]
        return row

    async def put(self, path: str, source: Path, content_type: str) -> bool:
        """Upload a file with the exact content type and an immutable cache-control; False when it is there already.

        Raises:
            StorageRejectedError: type, size, bucket, key or credentials are refused.
            StorageUnavailableError: time-out, 429, 5xx, also where Storage hides it behind HTTP 400.
        """
        started = time.monotonic()
        options = {"content-type": content_type, "cache-control": ONE_YEAR, "upsert": "false"}
        try:
            with source.open("rb") as file:
                await (await self.client()).storage.from_(self.bucket).upload(path, file, options)  # type: ignore[arg-type]
        except StorageApiError as error:
            if _status(error) == CONFLICT:
                self._observer.storage("upload", "duplicate")
                return False
            self._observer.storage("upload", "rejected")
            raise _translate(error) from error
        except STRANGE as error:
            self._observer.storage("upload", "unavailable")
            waited = time.monotonic() - started
            raise StorageUnavailableError(f"upload: {type(error).__name__} after {waited:.1f} s") from error
        self._observer.storage("upload", "ok")
        return True

    async def exists(self, path: str) -> bool:
        """Whether Storage has the object."""
        try:
            await (await self.client()).storage.from_(self.bucket).info(path)
        except StorageApiError as error:
            if _status(error) == NOT_FOUND and "bucket" not in error.message.lower():
                return False
            raise _translate(error) from error
        except STRANGE as error:
            raise StorageUnavailableError(f"info: {type(error).__name__} at SUPABASE_URL") from error
        return True

    async def reachable(self) -> None:
        """Ask Storage for the bucket; a refusal is an answer. Raises StorageUnavailableError when there is none."""
        try:
            await (await self.client()).storage.get_bucket(self.bucket)
        except StorageApiError as error:
            translated = _translate(error)
            if isinstance(translated, StorageUnavailableError):
                raise translated from error
        except STRANGE as error:
            raise StorageUnavailableError(f"bucket: {type(error).__name__} at SUPABASE_URL") from error


def _status(error: StorageApiError) -> int:
    """Return the true status: Storage answers HTTP 400 to nearly everything and says in the body what it meant."""
    try:
        return int(error.status)
    except (TypeError, ValueError):
        return SERVER_ERROR


def _translate(error: StorageApiError) -> StorageRejectedError | StorageUnavailableError:
    status = _status(error)
    said = f"Storage answered {status} {error.code}: {error.message}"
    if status in TRANSIENT or status >= SERVER_ERROR:
        return StorageUnavailableError(said)
    if status == NOT_FOUND:
        return StorageRejectedError(f"{said}; create the bucket, or set STORAGE_BUCKET")
    return StorageRejectedError(said)


def _told(error: APIError) -> str:
    """Say what the REST API said, and what to do where we know."""
    remedy = {
        "PGRST202": "; apply the migrations (outlast init prints them)",
        "42501": "; SUPABASE_SERVICE_ROLE_KEY must be the service role's key",
        "PGRST301": "; SUPABASE_SERVICE_ROLE_KEY is not accepted",
    }.get(error.code or "", "")
    return f"{error.code or 'no code'}: {(error.message or 'no message')[:300]}{remedy}"
