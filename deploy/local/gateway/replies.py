"""Storage's answers: nearly every error is HTTP 400 with the true status in the body."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
from aiohttp import web

from deploy.local.gateway.access import Access, Claims, Database, DeniedError


class StorageError(Exception):
    """An error as Storage tells it: `status` goes into the body, HTTP says 400 (500 only for what is unforeseen)."""

    def __init__(self, status: int, error: str, message: str, code: str) -> None:
        super().__init__(message)
        self.body = {"statusCode": str(status), "error": error, "message": message, "code": code}
        self.http = 500 if status == 500 else 400  # noqa: PLR2004 - internal error


def no_bucket() -> StorageError:
    """The bucket is not there, or not for the one who asks."""
    return StorageError(404, "Bucket not found", "Bucket not found", "NoSuchBucket")


def no_object() -> StorageError:
    """The object is not there, or not for the one who asks."""
    return StorageError(404, "not_found", "Object not found", "NoSuchKey")


def duplicate(code: str = "KeyAlreadyExists") -> StorageError:
    """Something of that name is there already."""
    return StorageError(409, "Duplicate", "The resource already exists", code)


def invalid(message: str) -> StorageError:
    """The request lacks something."""
    return StorageError(400, "Error", message, "InvalidRequest")


Handler = Callable[[web.Request, Claims], Awaitable[web.StreamResponse]]


def guarded(access: Access, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Let in who has a key, and answer errors as Storage does."""

    async def serve(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request, access.claims(request.headers))
        except DeniedError as error:
            if error.missing:
                return answer(invalid("headers must have required property 'authorization'"))
            return answer(StorageError(403, "Unauthorized", str(error), "AccessDenied"))
        except StorageError as error:
            return answer(error)
        except asyncpg.InsufficientPrivilegeError:
            said = "new row violates row-level security policy"
            return answer(StorageError(403, "Unauthorized", said, "AccessDenied"))
        except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresConnectionError):
            # The platform says 544 without disguise when its database pool gives nothing.
            body = {
                "statusCode": "544",
                "error": "DatabaseTimeout",
                "message": "The connection to the database timed out",
            }
            return web.json_response(body | {"code": "DatabaseTimeout"}, status=544)

    return serve


def answer(error: StorageError) -> web.Response:
    """Return the error as a response. The connection is closed: the rest of a refused body may still be on it."""
    response = web.json_response(error.body, status=error.http)
    response.force_close()
    return response


async def bucket_of(database: Database, claims: Claims, bucket: str) -> dict[str, Any]:
    """Return the bucket's row as the one who asks may see it; objects may be visible where their bucket is not."""
    async with database.acting({**claims, "role": "service_role"}) as connection:
        row = await connection.fetchrow("select * from storage.buckets where id = $1", bucket)
    if row is None:
        raise no_bucket()
    return dict(row)


def stamp(moment: Any) -> str:  # noqa: ANN401 - asyncpg's datetime
    """Return a time as Storage writes it: milliseconds and a Z."""
    text: str = moment.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    return text
