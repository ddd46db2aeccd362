"""The gateway itself: what it is made of, and which route leads where."""

import secrets
from pathlib import Path
from typing import Final, Self

from aiohttp import web

from deploy.local.gateway.access import Keys
from deploy.local.gateway.buckets import Buckets
from deploy.local.gateway.database import Database
from deploy.local.gateway.doors import RestDoor, StorageDoor
from deploy.local.gateway.downloads import Downloads
from deploy.local.gateway.files import Files
from deploy.local.gateway.objects import Objects
from deploy.local.gateway.rest import Tables
from deploy.local.gateway.rest_errors import json_answer
from deploy.local.gateway.rpc import Functions
from deploy.local.gateway.shelves import Shelves
from deploy.local.gateway.signing import Signing
from deploy.local.gateway.tus import Resumable
from deploy.local.gateway.uploads import Uploads
from deploy.local.gateway.webhooks import WebhookDelivery

LARGEST_JSON: Final = 64 * 1024**2


class Gateway:
    """A Supabase project's HTTP side, in the caller's event loop, on 127.0.0.1.

    `database_url` must be a superuser's; roles are taken from the tokens. Objects lie at
    `<storage_dir>/<bucket>/<path>`. The port is chosen once and kept from stop to start.
    """

    def __init__(self, *, database_url: str, storage_dir: Path, port: int = 0, jwt_secret: str | None = None) -> None:
        self._port = port
        self._keys = Keys(jwt_secret or secrets.token_urlsafe(32))
        self._database = Database(database_url)
        self._files = Files(storage_dir)
        self._delivery = WebhookDelivery(database_url)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """The project's address, as SUPABASE_URL."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def jwt_secret(self) -> str:
        """What tokens are signed with."""
        return self._keys.secret

    @property
    def anon_key(self) -> str:
        """The key a browser may have."""
        return self._keys.anon

    @property
    def service_role_key(self) -> str:
        """The key that may do everything."""
        return self._keys.service_role

    async def start(self) -> None:
        """Serve; until the database is there, requests are refused. OSError when the port is taken."""
        self._files.prepare()
        await self._database.start()
        self._runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self._delivery.start()

    async def stop(self) -> None:
        """Stop serving and delivering; nothing is left running."""
        await self._delivery.stop()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._database.stop()

    def _app(self) -> web.Application:
        app = web.Application(client_max_size=LARGEST_JSON)
        app.add_routes(_rest_routes(RestDoor(self._keys), self._database))
        app.add_routes(_storage_routes(StorageDoor(self._keys), self._keys, self._database, self._files))
        app.router.add_route("*", "/{anything:.*}", _no_route)
        return app


async def _no_route(_: web.Request) -> web.Response:
    return json_answer({"message": "no Route matched with those values"}, 404)


def _rest_routes(door: RestDoor, database: Database) -> list[web.RouteDef]:
    return [
        web.post("/rest/v1/rpc/{function}", door(Functions(database).handle)),
        web.route("*", "/rest/v1/{table}", door(Tables(database).handle)),
    ]


def _storage_routes(door: StorageDoor, keys: Keys, database: Database, files: Files) -> list[web.RouteDef]:
    """Return the routes of Storage; the first that fits wins, so that words come before buckets of that name."""
    objects = Objects(database, files)
    buckets, shelves = Buckets(database, files), Shelves(database, objects)
    downloads, uploads, resumable = Downloads(objects), Uploads(objects), Resumable(objects)
    signing = Signing(keys, objects, downloads, uploads)
    root = "/storage/v1"
    place = "{bucket}/{path:.*}"
    return [
        web.post(f"{root}/bucket", door(buckets.create)),
        web.get(f"{root}/bucket", door(buckets.list)),
        web.get(f"{root}/bucket/{{bucket}}", door(buckets.read)),
        web.put(f"{root}/bucket/{{bucket}}", door(buckets.update)),
        web.delete(f"{root}/bucket/{{bucket}}", door(buckets.delete)),
        web.post(f"{root}/bucket/{{bucket}}/empty", door(buckets.empty)),
        web.options(f"{root}/upload/resumable", door.open(resumable.options)),
        web.post(f"{root}/upload/resumable", door(resumable.create)),
        web.head(f"{root}/upload/resumable/{{id}}", door(resumable.head)),
        web.patch(f"{root}/upload/resumable/{{id}}", door(resumable.append)),
        web.delete(f"{root}/upload/resumable/{{id}}", door(resumable.delete)),
        web.post(f"{root}/object/list/{{bucket}}", door(shelves.list)),
        web.post(f"{root}/object/copy", door(shelves.copy)),
        web.post(f"{root}/object/move", door(shelves.move)),
        web.post(f"{root}/object/sign/{{bucket}}", door(signing.sign_many)),
        web.post(f"{root}/object/sign/{place}", door(signing.sign)),
        web.get(f"{root}/object/sign/{place}", door.open(signing.read)),
        web.post(f"{root}/object/upload/sign/{place}", door(signing.sign_upload)),
        web.put(f"{root}/object/upload/sign/{place}", door.open(signing.write)),
        web.get(f"{root}/object/info/{place}", door(downloads.info)),
        web.get(f"{root}/object/authenticated/{place}", door(downloads.read)),
        web.get(f"{root}/object/public/{place}", door.open(downloads.read_public)),
        web.get(f"{root}/object/{place}", door.maybe(downloads.read)),
        web.post(f"{root}/object/{place}", door(uploads.create)),
        web.put(f"{root}/object/{place}", door(uploads.update)),
        web.delete(f"{root}/object/{{bucket}}", door(shelves.remove_many)),
        web.delete(f"{root}/object/{place}", door(shelves.remove_one)),
    ]
