"""Storage: the bucket, its limits, and who may read in it."""

from typing import Any, Final
from urllib.parse import quote

import httpx

from schemas.storage import ContentType
from worker.doctor.context import CheckContext
from worker.doctor.database import APPLY
from worker.doctor.project import body_of, message
from worker.doctor.result import Concern, Failure

MIB: Final = 1024 * 1024


async def bucket(site: CheckContext) -> str:
    """It must be there and take what we store."""
    name = site.settings.storage_bucket
    try:
        answer = await site.http.get(f"/storage/v1/bucket/{quote(name, safe='')}")
    except httpx.HTTPError as error:
        raise Failure(f"Storage gives no answer: {type(error).__name__}", "look at the project's status") from error
    found = body_of(answer)
    if answer.is_error or not isinstance(found, dict):
        if "not found" in message(answer).lower():
            remedy = f"make it, private (Storage, New bucket), or set STORAGE_BUCKET; {APPLY} makes it too"
            raise Failure(f"there is no bucket {name!r}", remedy)
        raise Failure(f"Storage answers {answer.status_code}: {message(answer)}", "look at the project's status")
    _judge_limits(site, found)
    if found.get("public"):
        raise Concern(f"the bucket {name!r} is public: who knows a path reads the file", "make it private (Storage)")
    return f"{name!r} is there and private"


async def bucket_policy(site: CheckContext) -> str:
    """A signed-in user reads their own folder; the policy names the bucket."""
    ours, theirs = site.settings.storage_bucket, site.health.get("bucket")
    if ours != theirs:
        raise Concern(f"the database's policy is for the bucket {theirs!r}, and STORAGE_BUCKET is {ours!r}", APPLY)
    if not site.health.get("storage_policy"):
        remedy = "run in the SQL editor: select public.outlast_install_storage();"
        raise Concern("no policy lets users read their own folder of the bucket", remedy)
    return "users read their own folder"


def _judge_limits(site: CheckContext, found: dict[str, Any]) -> None:
    """Raise Failure when the bucket would refuse what the settings let through."""
    limit = found.get("file_size_limit")
    if limit is not None and int(limit) < site.settings.max_file_bytes:
        said = f"the bucket takes {int(limit) / MIB:g} MiB, and MAX_FILE_SIZE_MB is {site.settings.max_file_size_mb:g}"
        raise Failure(said, "raise the bucket's limit, or lower MAX_FILE_SIZE_MB")
    allowed = found.get("allowed_mime_types")
    if allowed:
        refused = [kind for kind in map(str, ContentType) if not _takes(allowed, kind)]
        if refused:
            first = ", ".join(refused[:3])
            raise Failure(
                f"the bucket refuses {len(refused)} types we store: {first}", "allow them in the bucket, or any"
            )


def _takes(allowed: list[str], kind: str) -> bool:
    """Whether a list such as `["image/*", "video/mp4"]` has room for a type."""
    return any(entry in {kind, "*/*", f"{kind.partition('/')[0]}/*"} for entry in allowed)
