"""Objects in Storage as they are recorded in the database."""

from typing import Literal

from schemas.base import Frozen
from schemas.files import ProcessedFile


class SuboptimalImage(Frozen):
    """An image that is not stored as the wanted profile stores it, or for which a smaller object exists.

    `stale`: it was stored with another profile. `twin`: another file of the same user, made from the same source with
    the wanted profile, which can replace it.
    """

    path: str
    content_type: str
    file_size: int
    sha256: str
    user_id: str | None = None
    source_sha256: str | None = None
    stale: bool
    twin: ProcessedFile | None = None


class UnvariedFile(Frozen):
    """A stored file whose variants are not those of `wanted`. `profile` is its profile's key without the variants."""

    path: str
    content_type: str
    file_size: int
    sha256: str
    user_id: str | None = None
    profile: str | None = None
    wanted: str


class StoredObject(Frozen):
    """An object that files can reference, and the key of its profile. The units are those of `ProcessedFile`."""

    path: str
    sha256: str
    file_size: int
    content_type: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    thumbhash: str | None = None
    quality: int | None = None
    profile: str


class ObjectCount(Frozen):
    """The number of objects, and their total size in bytes. `duplicates` of them have a `SuboptimalImage.twin`."""

    objects: int
    bytes: int
    duplicates: int = 0


class MoveObjectReply(Frozen):
    """The answer of `outlast_move_object` and `outlast_set_variants`.

    `files` is the number of changed files; `more`: call the function again for the others. If an object is being
    removed, the state is `object_deleting` and nothing was changed.
    """

    state: Literal["moved", "object_deleting"]
    files: int = 0
    more: bool = False
