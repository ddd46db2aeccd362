"""The client of a Supabase project: SQL functions, tables and Storage.

SQL functions and Storage are called over `ProjectApi`, because every file uses them. Tables and signed URLs, which are
rare, go through the official supabase client.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from handlers.database.batched_calls import BatchedCalls
from handlers.database.http import ProjectApi
from handlers.database.rpc import RpcClient, refusal_text
from handlers.errors import DatabaseUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings, SettingsError
from handlers.storage.api import StorageApi
from handlers.storage.supabase_storage import SupabaseStorage
from handlers.storage.tus import OpenUploads
from handlers.storage.upload_file import UploadFile

if TYPE_CHECKING:  # both are imported when they are used: 14 MB and 3 MB that most processes never need
    from httpx import AsyncClient as HttpClient
    from supabase import AsyncClient

CLIENT_ERRORS: Final = (ValueError, TypeError, LookupError)
"""What the supabase client raises, besides httpx's errors, for an answer that is not JSON or has an unknown form."""


class Supabase:
    """One Supabase project, and one bucket of its Storage. Connections are opened on first use; `aclose` closes them.

    `is_busy` returns whether files wait for a codec process; see BatchedCalls.
    """

    def __init__(
        self, settings: MediaSettings, observer: Observer | None = None, is_busy: Callable[[], bool] = lambda: False
    ) -> None:
        if settings.supabase_url is None or settings.supabase_service_role_key is None:
            raise SettingsError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: set both (Project settings, API)")
        self.bucket = settings.storage_bucket
        self._url = settings.supabase_url.rstrip("/")
        self._key = settings.supabase_service_role_key.get_secret_value()
        self._timeout = settings.storage_timeout_seconds
        # Separate connections for functions and Storage, so that a heartbeat does not wait for uploads.
        self._apis = tuple(ProjectApi(self._url, self._key, self._timeout) for _ in range(2))
        self._rpc = RpcClient(self._apis[0])
        observer = observer or Observer()
        self._batched_calls = BatchedCalls(self._rpc, observer, is_busy)
        self._storage_api = StorageApi(self._apis[1], observer)
        self._storage = self._storage_of(self.bucket)
        self._http: HttpClient | None = None
        self._client: AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        await self._batched_calls.aclose()
        for api in self._apis:
            await api.aclose()
        if self._http is not None:
            await self._http.aclose()
        self._http = self._client = None

    def in_bucket(self, bucket: str) -> Self:
        """Return the same project with another bucket. It shares the connections; do not close it."""
        if bucket == self.bucket:
            return self
        other = copy.copy(self)
        other.bucket = bucket
        other._storage = self._storage_of(bucket)  # noqa: SLF001 - an object of this class
        return other

    def _storage_of(self, bucket: str) -> SupabaseStorage:
        return SupabaseStorage(self._storage_api, bucket, OpenUploads(self.call, bucket))

    async def client(self) -> "AsyncClient":
        """Return the official supabase client. The first call imports and opens it."""
        import httpx  # noqa: PLC0415 - see TYPE_CHECKING
        from supabase import AsyncClientOptions, acreate_client  # noqa: PLC0415 - see TYPE_CHECKING

        if self._client is None:
            # HTTP/1.1, because the platform is known to drop HTTP/2 connections ("Server disconnected").
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout, connect=10), limits=httpx.Limits(max_connections=64), http2=False
            )
            options = AsyncClientOptions(httpx_client=self._http, auto_refresh_token=False, persist_session=False)
            self._client = await acreate_client(self._url, self._key, options)
        return self._client

    async def call(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON
        """Call an SQL function; see `RpcClient.call`."""
        return await self._rpc.call(function, arguments)

    async def call_batched(self, function: str, arguments: dict[str, Any], user: str | None) -> Any:  # noqa: ANN401 - any JSON
        """Call an SQL function, perhaps in one request with other calls; see `BatchedCalls.call`."""
        return await self._batched_calls.call(function, arguments, user)

    async def first_row(self, schema: str, table: str, column: str, value: str) -> dict[str, Any] | None:
        """Return one row where `column` equals `value`, or None. Raises DatabaseUnavailableError."""
        rows = await self.rows(schema, table, column, value, limit=1)
        return rows[0] if rows else None

    async def rows(self, schema: str, table: str, column: str, value: str, limit: int) -> list[dict[str, Any]]:
        """Return at most `limit` rows where `column` equals `value`. Raises DatabaseUnavailableError."""
        from httpx import HTTPError, InvalidURL  # noqa: PLC0415 - see TYPE_CHECKING
        from postgrest.exceptions import APIError  # noqa: PLC0415 - see TYPE_CHECKING

        try:
            tables = (await self.client()).schema(schema)
            response = await tables.table(table).select("*").eq(column, value).limit(limit).execute()
        except APIError as error:
            raise DatabaseUnavailableError(f"{table}: {refusal_text(error.json())}") from error
        except (HTTPError, InvalidURL, *CLIENT_ERRORS) as error:
            raise DatabaseUnavailableError(f"{table}: {type(error).__name__} at SUPABASE_URL") from error
        rows: list[dict[str, Any]] = response.data  # type: ignore[assignment]
        return rows

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store a file; see `SupabaseStorage.put`."""
        return await self._storage.put(path, content, verify=verify)

    async def exists(self, path: str) -> bool:
        """Return whether Storage has the object; see `SupabaseStorage.exists`."""
        return await self._storage.exists(path)

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects; see `SupabaseStorage.remove`."""
        await self._storage.remove(paths)

    async def fetch(self, path: str, target: Path) -> None:
        """Download an object; see `SupabaseStorage.fetch`."""
        await self._storage.fetch(path, target)

    async def check_reachable(self) -> None:
        """Check that the project's Storage answers; see `SupabaseStorage.check_reachable`."""
        await self._storage.check_reachable()
