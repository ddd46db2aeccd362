"""Objects in Storage as the database knows them: those to store better, and what becomes of them."""

from typing import Literal

from schemas.base import Frozen
from schemas.files import ProcessedFile


class SuboptimalImage(Frozen):
    """An image that is not what the profile wanted would make of it.

    `stale`: it was stored with another profile. `twin`: what this user has stored of the same source with that one.
    """

    path: str
    content_type: str
    file_size: int
    sha256: str
    user_id: str | None = None
    source_sha256: str | None = None
    stale: bool
    twin: ProcessedFile | None = None


class StoredObject(Frozen):
    """An object that files are to point at, and the profile it was made with. Sizes as in `ProcessedFile`."""

    path: str
    sha256: str
    file_size: int
    content_type: str
    width: int | None = None
    height: int | None = None
    duration: float | None = None
    thumbhash: str | None = None
    profile: str


class ObjectCount(Frozen):
    """How many objects, of how many bytes; `duplicates` of them have a twin."""

    objects: int
    bytes: int
    duplicates: int = 0


class MoveReply(Frozen):
    """Answer of `outlast_move_object`: how many files moved, and whether there are `more`."""

    state: Literal["moved", "object_deleting"]
    files: int = 0
    more: bool = False
