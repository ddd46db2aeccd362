"""Signed URLs: each gives access to read or to write one object until it expires."""

import time
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from deploy.local.gateway.rest_errors import json_response
from deploy.local.gateway.storage.buckets import read_json
from deploy.local.gateway.storage.downloads import Downloads
from deploy.local.gateway.storage.errors import (
    BAD_SIGNATURE,
    NO_OBJECT,
    StorageApiError,
    bad_signed_url,
    invalid_request,
)
from deploy.local.gateway.storage.objects import Objects, check_names
from deploy.local.gateway.storage.standard_uploads import StandardUploads
from deploy.local.gateway.tokens import Caller, ProjectKeys, TokenError

UPLOAD_SECONDS: Final = 2 * 60 * 60
NOT_VISIBLE: Final = "Either the object does not exist or you do not have access to it"
URL_SIGNER: Final = Caller("service_role", "{}")  # access was checked when the URL was signed


class Signing:
    """Handlers of the routes that create signed URLs, and of the signed URLs themselves."""

    def __init__(self, keys: ProjectKeys, objects: Objects, downloads: Downloads, uploads: StandardUploads) -> None:
        self._keys = keys
        self._objects = objects
        self._downloads = downloads
        self._uploads = uploads

    async def sign(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a signed URL to read one object."""
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        seconds = _seconds(await read_json(request))
        await self._objects.find(caller, bucket, key)
        return json_response({"signedURL": self._signed(bucket, key, seconds)})

    async def sign_many(self, request: web.Request, caller: Caller) -> web.Response:
        """Return signed URLs to read several objects, with an error for each object that the caller may not see."""
        body = await read_json(request)
        bucket, seconds = request.match_info["bucket"], _seconds(body)
        answers = []
        for key in body.get("paths") or []:
            try:
                await self._objects.find(caller, bucket, key)
            except StorageApiError as error:
                if error.code != NO_OBJECT[3]:
                    raise
                answers.append({"error": NOT_VISIBLE, "path": key, "signedURL": None})
            else:
                answers.append({"error": None, "path": key, "signedURL": self._signed(bucket, key, seconds)})
        return json_response(answers)

    async def read(self, request: web.Request) -> web.StreamResponse:
        """Send the object of a signed URL."""
        claims = self._claims(request, "download")
        row = await self._objects.find(None, request.match_info["bucket"], request.match_info["path"])
        return await self._downloads.send(request, row, expires=datetime.fromtimestamp(claims["exp"], UTC))

    async def sign_upload(self, request: web.Request, caller: Caller) -> web.Response:
        """Return a signed URL to write one object, valid for two hours."""
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        check_names(bucket, key)
        await self._objects.bucket(bucket)
        upsert = request.headers.get("x-upsert", "").lower() == "true"
        await self._objects.check_write_access(caller, bucket, key, upsert=upsert)
        now = int(time.time())
        claims = {
            "url": f"{bucket}/{key}",
            "upsert": upsert,
            "scope": "upload",
            "iat": now,
            "exp": now + UPLOAD_SECONDS,
        }
        token = self._keys.sign(claims)
        return json_response({"url": f"/object/upload/sign/{bucket}/{key}?token={token}", "token": token})

    async def write(self, request: web.Request) -> web.Response:
        """Store the object that is sent to a signed URL."""
        claims = self._claims(request, "upload")
        bucket, key = request.match_info["bucket"], request.match_info["path"]
        await self._uploads.receive(request, URL_SIGNER, bucket, key, upsert=bool(claims.get("upsert")))
        return json_response({"Key": f"{bucket}/{key}"})

    def _signed(self, bucket: str, key: str, seconds: int) -> str:
        now = int(time.time())
        token = self._keys.sign({"url": f"{bucket}/{key}", "scope": "download", "iat": now, "exp": now + seconds})
        return f"/object/sign/{bucket}/{key}?token={token}"

    def _claims(self, request: web.Request, scope: str) -> dict[str, Any]:
        """Return the claims of the URL's token. Raises StorageApiError when it is for another object or action."""
        try:
            claims = self._keys.read(request.query.get("token", ""))
        except TokenError as error:
            raise bad_signed_url(str(error)) from None
        named = f"{request.match_info['bucket']}/{request.match_info['path']}"
        if claims.get("url") != named or claims.get("scope") != scope:
            raise StorageApiError(*BAD_SIGNATURE)
        return claims


def _seconds(body: dict[str, Any]) -> int:
    try:
        seconds = int(body.get("expiresIn", ""))
    except (TypeError, ValueError):
        seconds = 0
    if seconds < 1:
        raise invalid_request("body/expiresIn must be >= 1")
    return seconds
