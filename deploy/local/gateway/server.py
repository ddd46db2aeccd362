"""The gateway's HTTP server: its parts and its routes."""

import secrets
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from deploy.local.gateway.auth import RestAuth, StorageAuth
from deploy.local.gateway.database import Database
from deploy.local.gateway.rest import Tables
from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.rpc import Functions
from deploy.local.gateway.storage.buckets import Buckets
from deploy.local.gateway.storage.downloads import Downloads
from deploy.local.gateway.storage.files import ObjectFiles
from deploy.local.gateway.storage.objects import Objects
from deploy.local.gateway.storage.objects_admin import ObjectsAdmin
from deploy.local.gateway.storage.signing import Signing
from deploy.local.gateway.storage.standard_uploads import StandardUploads
from deploy.local.gateway.storage.tus import ResumableUploads
from deploy.local.gateway.tokens import ProjectKeys
from deploy.local.gateway.webhooks import WebhookDelivery

MAX_JSON_BYTES: Final = 64 * 1024**2


class Gateway:
    """The HTTP APIs of a Supabase project on 127.0.0.1, in the caller's event loop.

    `database_url` must be that of a superuser; the role of each request comes from its token. Objects are stored at
    `<storage_dir>/<bucket>/<path>`. With port 0 a free port is chosen at the first start and kept for later starts.
    """

    def __init__(self, *, database_url: str, storage_dir: Path, port: int = 0, jwt_secret: str | None = None) -> None:
        self._port = port
        self._keys = ProjectKeys(jwt_secret or secrets.token_urlsafe(32))
        self._database = Database(database_url)
        self._files = ObjectFiles(storage_dir)
        self._delivery = WebhookDelivery(database_url)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The base URL of the project, the value of SUPABASE_URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def jwt_secret(self) -> str:
        """The secret that signs tokens."""
        return self._keys.secret

    @property
    def anon_key(self) -> str:
        """The public API key, for browsers."""
        return self._keys.anon

    @property
    def service_role_key(self) -> str:
        """The secret API key with all privileges."""
        return self._keys.service_role

    async def start(self) -> None:
        """Start serving; requests fail until the database can be reached. Raises OSError when the port is in use."""
        self._files.prepare()
        await self._database.start()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self._delivery.start()

    async def stop(self) -> None:
        """Stop the server and the webhook delivery."""
        await self._delivery.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._database.stop()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=MAX_JSON_BYTES)
        app.add_routes(_rest_routes(RestAuth(self._keys), self._database))
        app.add_routes(_storage_routes(StorageAuth(self._keys), self._keys, self._database, self._files))
        app.router.add_route("*", "/{anything:.*}", _no_route)
        return app


async def _no_route(_: web.Request) -> web.Response:
    return json_response({"message": "no Route matched with those values"}, 404)


def _rest_routes(auth: RestAuth, database: Database) -> list[web.RouteDef]:
    return [
        web.post("/rest/v1/rpc/{function}", auth.required(Functions(database).handle)),
        web.route("*", "/rest/v1/{table}", auth.required(Tables(database).handle)),
    ]


def _storage_routes(auth: StorageAuth, keys: ProjectKeys, database: Database, files: ObjectFiles) -> list[web.RouteDef]:
    """Return the routes of Storage. The first match is used, so fixed words come before the placeholder `{bucket}`."""
    objects = Objects(database, files)
    buckets, objects_admin = Buckets(database, files), ObjectsAdmin(database, objects)
    downloads, uploads, resumable = Downloads(objects), StandardUploads(objects), ResumableUploads(objects)
    signing = Signing(keys, objects, downloads, uploads)
    root = "/storage/v1"
    object_path = "{bucket}/{path:.*}"
    return [
        web.post(f"{root}/bucket", auth.required(buckets.create)),
        web.get(f"{root}/bucket", auth.required(buckets.list)),
        web.get(f"{root}/bucket/{{bucket}}", auth.required(buckets.read)),
        web.put(f"{root}/bucket/{{bucket}}", auth.required(buckets.update)),
        web.delete(f"{root}/bucket/{{bucket}}", auth.required(buckets.delete)),
        web.post(f"{root}/bucket/{{bucket}}/empty", auth.required(buckets.empty)),
        web.options(f"{root}/upload/resumable", auth.public(resumable.options)),
        web.post(f"{root}/upload/resumable", auth.required(resumable.create)),
        web.head(f"{root}/upload/resumable/{{id}}", auth.required(resumable.head)),
        web.patch(f"{root}/upload/resumable/{{id}}", auth.required(resumable.append)),
        web.delete(f"{root}/upload/resumable/{{id}}", auth.required(resumable.delete)),
        web.post(f"{root}/object/list/{{bucket}}", auth.required(objects_admin.list)),
        web.post(f"{root}/object/copy", auth.required(objects_admin.copy)),
        web.post(f"{root}/object/move", auth.required(objects_admin.move)),
        web.post(f"{root}/object/sign/{{bucket}}", auth.required(signing.sign_many)),
        web.post(f"{root}/object/sign/{object_path}", auth.required(signing.sign)),
        web.get(f"{root}/object/sign/{object_path}", auth.public(signing.read)),
        web.post(f"{root}/object/upload/sign/{object_path}", auth.required(signing.sign_upload)),
        web.put(f"{root}/object/upload/sign/{object_path}", auth.public(signing.write)),
        web.get(f"{root}/object/info/{object_path}", auth.required(downloads.info)),
        web.get(f"{root}/object/authenticated/{object_path}", auth.required(downloads.read)),
        web.get(f"{root}/object/public/{object_path}", auth.public(downloads.read_public)),
        web.get(f"{root}/object/{object_path}", auth.optional(downloads.read)),
        web.post(f"{root}/object/{object_path}", auth.required(uploads.create)),
        web.put(f"{root}/object/{object_path}", auth.required(uploads.update)),
        web.delete(f"{root}/object/{{bucket}}", auth.required(objects_admin.remove_many)),
        web.delete(f"{root}/object/{object_path}", auth.required(objects_admin.remove_one)),
    ]
