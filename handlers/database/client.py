"""Supabase: tables through its own client, functions and Storage, which every file needs, over `project_api`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from handlers.database.http import ProjectApi
from handlers.database.rpc import RpcClient, refusal_text
from handlers.errors import DatabaseUnavailableError
from handlers.observer import Observer
from handlers.settings import MediaSettings, SettingsError
from handlers.storage.api import StorageApi
from handlers.storage.supabase_storage import SupabaseStorage
from handlers.storage.tus import OpenUploads
from handlers.storage.upload_file import UploadFile

if TYPE_CHECKING:  # 14 MB that most processes never need, and 3 more
    from httpx import AsyncClient as HttpClient
    from supabase import AsyncClient

CLIENT_ERRORS: Final = (ValueError, TypeError, LookupError)
"""What else the client raises, beside httpx' errors: answers that are no JSON or not of the API's making."""


class Supabase:
    """One project, and the Storage of its bucket. Connections are opened on first use; `aclose` closes them."""

    def __init__(self, settings: MediaSettings, observer: Observer | None = None) -> None:
        if settings.supabase_url is None or settings.supabase_service_role_key is None:
            raise SettingsError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: set both (Project settings, API)")
        self.bucket = settings.storage_bucket
        self._url = settings.supabase_url.rstrip("/")
        self._key = settings.supabase_service_role_key.get_secret_value()
        self._timeout = settings.storage_timeout_seconds
        # Each has connections of its own: a heartbeat must not wait for uploads.
        self._apis = tuple(ProjectApi(self._url, self._key, self._timeout) for _ in range(2))
        self._functions = RpcClient(self._apis[0])
        storage = StorageApi(self._apis[1], observer or Observer())
        self._storage = SupabaseStorage(storage, self.bucket, OpenUploads(self.call, self.bucket))
        self._http: HttpClient | None = None
        self._client: AsyncClient | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the next call opens new ones."""
        for api in self._apis:
            await api.aclose()
        if self._http is not None:
            await self._http.aclose()
        self._http = self._client = None

    async def client(self) -> "AsyncClient":
        """Return the supabase client."""
        import httpx  # noqa: PLC0415 - see above
        from supabase import AsyncClientOptions, acreate_client  # noqa: PLC0415 - the same

        if self._client is None:
            # HTTP/1.1: over HTTP/2 the platform is known to end connections in mid-air ("Server disconnected").
            self._http = httpx.AsyncClient(
                timeout=httpx.Timeout(self._timeout, connect=10), limits=httpx.Limits(max_connections=64), http2=False
            )
            options = AsyncClientOptions(httpx_client=self._http, auto_refresh_token=False, persist_session=False)
            self._client = await acreate_client(self._url, self._key, options)
        return self._client

    async def call(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever JSON it returns
        """Call a database function, as `RpcClient.call`."""
        return await self._functions.call(function, arguments)

    async def first_row(self, schema: str, table: str, column: str, value: str) -> dict[str, Any] | None:
        """Return the first row where `column` is `value`; raise DatabaseUnavailableError when that cannot be told."""
        from httpx import HTTPError, InvalidURL  # noqa: PLC0415 - see above
        from postgrest.exceptions import APIError  # noqa: PLC0415 - the same

        try:
            tables = (await self.client()).schema(schema)
            found = await tables.table(table).select("*").eq(column, value).limit(1).execute()
        except APIError as error:
            raise DatabaseUnavailableError(f"{table}: {refusal_text(error.json())}") from error
        except (HTTPError, InvalidURL, *CLIENT_ERRORS) as error:
            raise DatabaseUnavailableError(f"{table}: {type(error).__name__} at SUPABASE_URL") from error
        row: dict[str, Any] | None = found.data[0] if found.data else None  # type: ignore[assignment]
        return row

    async def put(self, path: str, content: UploadFile, *, verify: bool = True) -> bool:
        """Store a file, as `SupabaseStorage.put`."""
        return await self._storage.put(path, content, verify=verify)

    async def exists(self, path: str) -> bool:
        """Whether Storage has the object, as `SupabaseStorage.exists`."""
        return await self._storage.exists(path)

    async def remove(self, paths: Sequence[str]) -> None:
        """Remove objects, as `SupabaseStorage.remove`."""
        await self._storage.remove(paths)

    async def fetch(self, path: str, target: Path) -> None:
        """Bring an object to disk, as `SupabaseStorage.fetch`."""
        await self._storage.fetch(path, target)

    async def check_reachable(self) -> None:
        """See that Storage answers, as `SupabaseStorage.reachable`."""
        await self._storage.check_reachable()
