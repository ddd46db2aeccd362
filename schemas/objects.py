"""Objects in Storage as they are recorded in the database."""

from typing import Literal

from schemas.base import Frozen
from schemas.files import ProcessedFile


class SuboptimalImage(Frozen):
    """An image that the wanted profile would store in another form.

    `stale`: it was stored with another profile. `twin`: a file of the same user and source with the wanted profile.
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
    """A stored file whose variants are not those that are `wanted` now. `profile` is without variants."""

    path: str
    content_type: str
    file_size: int
    sha256: str
    user_id: str | None = None
    profile: str | None = None
    wanted: str


class StoredObject(Frozen):
    """An object that files can reference, and its profile. The units are those of `ProcessedFile`."""

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
    """Number and total size of objects. `duplicates` of them have a `twin`."""

    objects: int
    bytes: int
    duplicates: int = 0


class MoveObjectReply(Frozen):
    """The answer of `outlast_move_object`: the number of changed files, and whether there are more."""

    state: Literal["moved", "object_deleting"]
    files: int = 0
    more: bool = False
