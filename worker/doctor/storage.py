"""Checks of Storage: the bucket, its limits, and its read policy."""

from typing import Any
from urllib.parse import quote

import httpx

from handlers.memory import MIB
from schemas.storage import ContentType
from worker.doctor.context import CheckContext
from worker.doctor.database import APPLY_REMEDY
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning


async def bucket(context: CheckContext) -> str:
    """The bucket must exist and accept all files that the settings allow."""
    name = context.settings.storage_bucket
    try:
        response = await context.supabase_http.get(f"/storage/v1/bucket/{quote(name, safe='')}")
    except httpx.HTTPError as error:
        raise CheckFailure(
            f"Storage does not answer: {type(error).__name__}", "check the status of the project"
        ) from error
    details = parse_body(response)
    if response.is_error or not isinstance(details, dict):
        if "not found" in error_message(response).lower():
            remedy = f"create a private bucket (Storage, New bucket), or set STORAGE_BUCKET; or {APPLY_REMEDY}"
            raise CheckFailure(f"there is no bucket {name!r}", remedy)
        raise CheckFailure(
            f"Storage answers {response.status_code}: {error_message(response)}", "check the status of the project"
        )
    _check_limits(context, details)
    if details.get("public") and context.health.get("public_bucket"):
        return f"{name!r} exists and is public, as a binding says"
    if details.get("public"):
        raise CheckWarning(
            f"the bucket {name!r} is public: everybody who knows a path can read the file", "make it private (Storage)"
        )
    return f"{name!r} exists and is private"


async def bucket_policy(context: CheckContext) -> str:
    """The policy must let signed-in users read their own folder of our bucket."""
    configured, in_policy = context.settings.storage_bucket, context.health.get("bucket")
    if configured != in_policy:
        raise CheckWarning(
            f"the policy in the database is for the bucket {in_policy!r}, but STORAGE_BUCKET is {configured!r}",
            APPLY_REMEDY,
        )
    if not context.health.get("storage_policy"):
        remedy = "run in the SQL editor: select public.outlast_install_storage();"
        raise CheckWarning("no policy lets users read their own folder of the bucket", remedy)
    return "users can read their own folder"


def _check_limits(context: CheckContext, details: dict[str, Any]) -> None:
    """Raise CheckFailure if the bucket would refuse files that the settings allow."""
    limit = details.get("file_size_limit")
    if limit is not None and int(limit) < context.settings.max_file_bytes:
        allowed_mb = context.settings.max_file_size_mb
        problem = f"the bucket accepts {int(limit) / MIB:g} MiB, but MAX_FILE_SIZE_MB is {allowed_mb:g}"
        raise CheckFailure(problem, "raise the bucket's limit, or lower MAX_FILE_SIZE_MB")
    allowed = details.get("allowed_mime_types")
    if allowed:
        refused = [kind for kind in map(str, ContentType) if not _accepts(allowed, kind)]
        if refused:
            first = ", ".join(refused[:3])
            raise CheckFailure(
                f"the bucket refuses {len(refused)} types that are stored: {first}",
                "allow these types in the bucket, or all",
            )


def _accepts(allowed: list[str], kind: str) -> bool:
    """Whether a list such as `["image/*", "video/mp4"]` contains a type."""
    return any(entry in {kind, "*/*", f"{kind.partition('/')[0]}/*"} for entry in allowed)
