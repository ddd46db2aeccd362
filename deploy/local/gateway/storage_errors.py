"""Storage's way of refusing: nearly everything is HTTP 400, and the true status is `statusCode` in the body."""

from typing import Final

from aiohttp import web

from deploy.local.gateway.rest_errors import json_answer


class StorageRefusal(Exception):  # noqa: N818 - an answer, not a fault
    """A refusal by the Storage API. `status` is the true one; `http` the one on the wire."""

    def __init__(self, status: int, error: str, message: str, code: str, http: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.code = code
        self.http = http

    def response(self) -> web.Response:
        """Return it as the Storage API sends it."""
        body = {"statusCode": str(self.status), "error": self.error, "message": self.message, "code": self.code}
        return json_answer(body, self.http)


NO_BUCKET: Final = (404, "Bucket not found", "Bucket not found", "NoSuchBucket")
NO_OBJECT: Final = (404, "not_found", "Object not found", "NoSuchKey")
OBJECT_EXISTS: Final = (409, "Duplicate", "The resource already exists", "KeyAlreadyExists")
BUCKET_EXISTS: Final = (409, "Duplicate", "The resource already exists", "BucketAlreadyExists")
NOT_EMPTY: Final = (409, "ResourceNotEmpty", "The bucket you tried to delete is not empty", "ResourceNotEmpty")
NOT_ALLOWED: Final = (403, "Unauthorized", "new row violates row-level security policy", "AccessDenied")
TOO_LARGE: Final = (413, "Payload too large", "The object exceeded the maximum allowed size", "EntityTooLarge")
NO_CONTENT: Final = (400, "InvalidRequest", "No content provided", "InvalidRequest")
NO_TYPE: Final = (415, "invalid_mime_type", "Invalid Content-Type header", "InvalidMimeType")
BAD_SIGNATURE: Final = (400, "InvalidSignature", "Invalid signature", "InvalidSignature")
BAD_RANGE: Final = (416, "invalid_range", "invalid range provided", "InvalidRange", 416)
INTERNAL: Final = (500, "Internal", "Internal Server Error", "InternalError", 500)
NO_TOKEN: Final = (400, "Error", "headers must have required property 'authorization'", "InvalidRequest")
# Not behind 400 either: a Storage API that finds no free connection to its database says 544.
DATABASE_DOWN: Final = (544, "DatabaseTimeout", "The connection to the database timed out", "DatabaseTimeout", 544)


def invalid_key(key: str) -> StorageRefusal:
    """Return the refusal of an object's name."""
    return StorageRefusal(400, "InvalidKey", f"Invalid key: {key}", "InvalidKey")


def invalid_request(message: str) -> StorageRefusal:
    """Return the refusal of a body that does not fit the schema."""
    return StorageRefusal(400, "Error", message, "InvalidRequest")


def unsupported_type(content_type: str) -> StorageRefusal:
    """Return the refusal of a type that the bucket does not allow."""
    message = f"mime type {content_type} is not supported"
    return StorageRefusal(415, "invalid_mime_type", message, "InvalidMimeType")


def bad_token(message: str) -> StorageRefusal:
    """Return the refusal of an API key or a user's token."""
    return StorageRefusal(403, "Unauthorized", message, "AccessDenied")


def bad_signed_url(message: str) -> StorageRefusal:
    """Return the refusal of the token in a signed URL."""
    return StorageRefusal(400, "InvalidJWT", message, "InvalidJWT")
