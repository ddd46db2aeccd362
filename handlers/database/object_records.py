"""The SQL functions about stored objects: unreferenced ones, and those to compress again or to give other variants."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self, TypeVar

from handlers.database.client import Supabase
from handlers.database.rpc import parse_answer
from schemas.files import StoredVariant
from schemas.objects import MoveObjectReply, ObjectCount, StoredObject, SuboptimalImage, UnvariedFile

T = TypeVar("T")


class ObjectRecords:
    """The functions of `deploy/supabase/migrations` about the objects of one bucket. Paths are relative to the bucket.

    Every method raises DatabaseUnavailableError when the database does not answer.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase
        self._bucket = supabase.bucket

    def in_bucket(self, bucket: str) -> Self:
        """Return the ObjectRecords of another bucket."""
        return type(self)(self._supabase.in_bucket(bucket))

    async def used_buckets(self) -> list[str]:
        """Return the names of the buckets with recorded objects."""
        return parse_answer("outlast_used_buckets", list[str], await self._supabase.call("outlast_used_buckets", {}))

    async def release_deleted_generations(self, grace_seconds: int) -> tuple[int, bool]:
        """Delete the recorded files of deleted generations; return how many, and whether to call again for more."""
        answer = await self._supabase.call("outlast_release", {"p_grace_seconds": grace_seconds})
        return int(answer["files"]), bool(answer["more"])

    async def count_orphans(self, grace_seconds: int) -> ObjectCount:
        """Count the objects stored by Outlast that no file has referenced for `grace_seconds`."""
        return await self._call("outlast_orphans", ObjectCount, p_grace_seconds=grace_seconds)

    async def claim_orphans(self, grace_seconds: int, limit: int) -> list[str]:
        """Mark at most `limit` orphans as `deleting`; return their paths. No other call gets them for ten minutes."""
        return await self._call("outlast_take_orphans", list[str], p_grace_seconds=grace_seconds, p_limit=limit)

    async def forget_objects(self, paths: Sequence[str]) -> None:
        """Delete the rows of objects that have been removed from Storage."""
        await self._call("outlast_forget_objects", dict[str, int], p_paths=list(paths))

    async def count_suboptimal(self, profile: str, since: datetime | None) -> ObjectCount:
        """Count the images recorded since `since` that are not stored with `profile`, or that have a smaller twin."""
        return await self._call("outlast_optimizable", ObjectCount, p_profile=profile, p_since=_iso(since))

    async def suboptimal(
        self, profile: str, since: datetime | None, after: str | None, limit: int
    ) -> list[SuboptimalImage]:
        """Return at most `limit` of these images, in order of path, after the path `after`."""
        return await self._call(
            "outlast_to_optimize",
            list[SuboptimalImage],
            p_profile=profile,
            p_since=_iso(since),
            p_after=after,
            p_limit=limit,
        )

    async def move_object(self, path: str, to: StoredObject, source_sha256: str | None = None) -> MoveObjectReply:
        """Change the files that reference the object at `path` to reference `to`, and rebuild their media.

        One call changes the files of at most 200 generations. With `source_sha256`, only the files of that source are
        changed. If `to` has the same path, the files keep their object and get its profile.
        """
        file = to.model_dump(mode="json")
        return await self._call(
            "outlast_move_object", MoveObjectReply, p_path=path, p_file=file, p_source_sha256=source_sha256
        )

    async def count_unvaried(self, variants: str, since: datetime | None) -> ObjectCount:
        """Count the files recorded since `since` whose variants are not those of their binding, or else `variants`."""
        return await self._call("outlast_count_unvaried", ObjectCount, p_variants=variants, p_since=_iso(since))

    async def unvaried(
        self, variants: str, since: datetime | None, after: str | None, limit: int
    ) -> list[UnvariedFile]:
        """Return at most `limit` of these files, in order of path, after the path `after`."""
        return await self._call(
            "outlast_to_vary",
            list[UnvariedFile],
            p_variants=variants,
            p_since=_iso(since),
            p_after=after,
            p_limit=limit,
        )

    async def set_variants(
        self, file: UnvariedFile, variants: Sequence[StoredVariant], default: str
    ) -> MoveObjectReply:
        """Record the variants of an object for its files that want them, and rebuild their media.

        One call changes the files of at most 200 generations. `default` is what files want if their binding has no
        variants of its own.
        """
        return await self._call(
            "outlast_set_variants",
            MoveObjectReply,
            p_path=file.path,
            p_wanted=file.wanted,
            p_variants=[variant.model_dump(mode="json") for variant in variants],
            p_default=default,
        )

    async def _call(self, function: str, kind: type[T], **arguments: Any) -> T:  # noqa: ANN401 - any JSON
        answer = await self._supabase.call(function, {"p_bucket": self._bucket, **arguments})
        return parse_answer(function, kind, answer)


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat()
