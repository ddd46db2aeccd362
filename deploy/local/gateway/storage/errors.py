"""Error responses of the Storage API: most are sent as HTTP 400, with the actual status as `statusCode` in the body."""

from typing import Final

from aiohttp import web

from deploy.local.gateway.rest_errors import json_response


class StorageApiError(Exception):
    """An error response of the Storage API. `status` is the one in the body, `http` the one in the status line."""

    def __init__(self, status: int, error: str, message: str, code: str, http: int = 400) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.message = message
        self.code = code
        self.http = http

    def response(self) -> web.Response:
        """Return the response that the Storage API sends."""
        body = {"statusCode": str(self.status), "error": self.error, "message": self.message, "code": self.code}
        return json_response(body, self.http)


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
# Also sent with its own status: the Storage API responds with 544 when it gets no connection to its database.
DATABASE_DOWN: Final = (544, "DatabaseTimeout", "The connection to the database timed out", "DatabaseTimeout", 544)


def invalid_key(key: str) -> StorageApiError:
    """Return the error for an object name that is not allowed."""
    return StorageApiError(400, "InvalidKey", f"Invalid key: {key}", "InvalidKey")


def invalid_request(message: str) -> StorageApiError:
    """Return the error for a body that does not match the schema."""
    return StorageApiError(400, "Error", message, "InvalidRequest")


def unsupported_type(content_type: str) -> StorageApiError:
    """Return the error for a MIME type that the bucket does not allow."""
    message = f"mime type {content_type} is not supported"
    return StorageApiError(415, "invalid_mime_type", message, "InvalidMimeType")


def bad_token(message: str) -> StorageApiError:
    """Return the error for an invalid API key or user token."""
    return StorageApiError(403, "Unauthorized", message, "AccessDenied")


def bad_signed_url(message: str) -> StorageApiError:
    """Return the error for an invalid token in a signed URL."""
    return StorageApiError(400, "InvalidJWT", message, "InvalidJWT")
