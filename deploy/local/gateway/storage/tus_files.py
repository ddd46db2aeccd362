"""Resumable uploads on disk: a file with the received bytes, and a JSON file that describes the upload."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO, Final
from uuid import UUID, uuid4

from deploy.local.gateway.storage.files import ObjectFiles, disk_errors
from deploy.local.gateway.storage.objects import ReceivedFile

MAX_UPLOAD_BYTES: Final = 500 * 1024**2


@dataclass(frozen=True, slots=True)
class Upload:
    """An open or finished upload. `length` in bytes is None while it is not known.

    `header` is the Upload-Metadata header, `metadata` its values.
    """

    version: str
    bucket: str
    key: str
    length: int | None
    header: str
    metadata: dict[str, str]
    finished: bool = False

    @property
    def id(self) -> str:
        """The last part of the upload's URL: the encoded name."""
        return base64.urlsafe_b64encode(self.name.encode()).decode().rstrip("=")

    @property
    def max_bytes(self) -> int:
        """The largest size that the upload can have."""
        return MAX_UPLOAD_BYTES if self.length is None else self.length

    @property
    def name(self) -> str:
        """`<bucket>/<key>/<version>`, which identifies the upload."""
        return f"{self.bucket}/{self.key}/{self.version}"


class UploadFiles:
    """The files of all uploads: `<version>.upload` has the bytes, `<version>.json` the rest. They survive a restart."""

    def __init__(self, files: ObjectFiles) -> None:
        self._folder = files.partial_folder

    def create(self, bucket: str, key: str, length: int | None, header: str, metadata: dict[str, str]) -> Upload:
        """Create an upload of `length` bytes, or of a length that is declared later."""
        upload = Upload(str(uuid4()), bucket, key, length, header, metadata)
        with disk_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._data(upload).touch()
        self._write(upload)
        return upload

    def declare_length(self, upload: Upload, length: int) -> Upload:
        """Set the length of an upload that was created without one."""
        declared = replace(upload, length=length)
        self._write(declared)
        return declared

    def find(self, name: str) -> Upload | None:
        """Return the upload with this name, or None."""
        version = name.rpartition("/")[2]
        try:
            upload = Upload(**json.loads((self._folder / f"{UUID(version)}.json").read_text()))
        except (ValueError, FileNotFoundError):
            return None
        return upload if upload.name == name else None

    def offset(self, upload: Upload) -> int:
        """Return the number of received bytes."""
        current = self.find(upload.name)
        return current.max_bytes if current and current.finished else self._size(upload)

    @contextmanager
    def open_for_append(self, upload: Upload) -> Iterator[BinaryIO]:
        """Open the upload's file to append bytes."""
        with disk_errors():
            file = self._data(upload).open("ab")
        with file:
            yield file

    def finish(self, upload: Upload) -> ReceivedFile:
        """Mark the upload as finished and return its file, ready to be stored as an object."""
        with disk_errors(), self._data(upload).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        self._write(replace(upload, finished=True))
        custom = upload.metadata.get("metadata")
        return ReceivedFile(
            self._data(upload),
            upload.max_bytes,
            f'"{digest}"',
            upload.metadata.get("contentType", "application/octet-stream"),
            _cache_control(upload.metadata.get("cacheControl", "")),
            json.loads(custom) if custom else None,
            upload.version,
        )

    def discard(self, upload: Upload) -> None:
        """Delete an upload."""
        for file in (self._data(upload), self._folder / f"{upload.version}.json"):
            file.unlink(missing_ok=True)

    def _data(self, upload: Upload) -> Path:
        return self._folder / f"{upload.version}.upload"

    def _size(self, upload: Upload) -> int:
        try:
            return self._data(upload).stat().st_size
        except FileNotFoundError:
            return 0

    def _write(self, upload: Upload) -> None:
        with disk_errors():
            (self._folder / f"{upload.version}.json").write_text(json.dumps(asdict(upload)))


def _cache_control(seconds: str) -> str:
    """Return the stored Cache-Control. As in the real API, only whole seconds are accepted, not a header's text."""
    return f"max-age={seconds}" if seconds.isascii() and seconds.isdigit() else "no-cache"
