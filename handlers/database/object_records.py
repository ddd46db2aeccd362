"""What the database is asked and told about objects: which are needed no more, and which could be stored better."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from handlers.database.client import Supabase
from handlers.errors import DatabaseUnavailableError
from schemas.objects import MoveReply, ObjectCount, StoredObject, SuboptimalImage

T = TypeVar("T")


class ObjectRecords:
    """The functions about objects of `deploy/supabase/migrations`, for the bucket of the settings.

    Every method raises DatabaseUnavailableError when the database gives no answer. Paths are those in the bucket.
    """

    def __init__(self, supabase: Supabase) -> None:
        self._supabase = supabase
        self._bucket = supabase.bucket

    async def release_deleted_generations(self, grace_seconds: int) -> tuple[int, bool]:
        """Let go of files of deleted generations; return how many there were, and whether to call again."""
        answer = await self._supabase.call("outlast_release", {"p_grace_seconds": grace_seconds})
        return int(answer["files"]), bool(answer["more"])

    async def count_orphans(self, grace_seconds: int) -> ObjectCount:
        """Count the objects that nothing has pointed at for so long."""
        return await self._ask("outlast_orphans", ObjectCount, p_grace_seconds=grace_seconds)

    async def claim_orphans(self, grace_seconds: int, limit: int) -> list[str]:
        """Mark such objects as being deleted; return their paths. For ten minutes nobody else is given them."""
        return await self._ask("outlast_take_orphans", list[str], p_grace_seconds=grace_seconds, p_limit=limit)

    async def forget_objects(self, paths: Sequence[str]) -> None:
        """Say that these are out of Storage."""
        await self._ask("outlast_forget_objects", dict[str, int], p_paths=list(paths))

    async def count_suboptimal(self, profile: str, since: datetime | None) -> ObjectCount:
        """Count the images that are not what `profile` would make of them, recorded since."""
        return await self._ask("outlast_optimizable", ObjectCount, p_profile=profile, p_since=_iso(since))

    async def suboptimal(
        self, profile: str, since: datetime | None, after: str | None, limit: int
    ) -> list[SuboptimalImage]:
        """Return the next of them, in order of their paths."""
        return await self._ask(
            "outlast_to_optimize",
            list[SuboptimalImage],
            p_profile=profile,
            p_since=_iso(since),
            p_after=after,
            p_limit=limit,
        )

    async def move_object(self, path: str, to: StoredObject, source_sha256: str | None = None) -> MoveReply:
        """Let the files at `path` (only those of one source, if given) point at another object; their media follow.

        Where it is the same object, only the profile changes.
        """
        file = to.model_dump(mode="json")
        return await self._ask(
            "outlast_move_object", MoveReply, p_path=path, p_file=file, p_source_sha256=source_sha256
        )

    async def _ask(self, function: str, kind: type[T], **arguments: Any) -> T:  # noqa: ANN401 - any JSON
        answer = await self._supabase.call(function, {"p_bucket": self._bucket, **arguments})
        try:
            return TypeAdapter(kind).validate_python(answer)
        except ValidationError as error:
            raise DatabaseUnavailableError(
                f"{function} answered in a form this version does not know: are its migrations applied?"
            ) from error


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
