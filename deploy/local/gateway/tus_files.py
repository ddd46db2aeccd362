"""Resumable uploads on disk: what has come so far, and beside it what the upload is."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid4

from deploy.local.gateway.files import Files, disk_errors
from deploy.local.gateway.objects import Received


@dataclass(frozen=True, slots=True)
class Upload:
    """An open, or finished, upload; `header` is the metadata as it was sent, `metadata` the same, read."""

    version: str
    bucket: str
    key: str
    length: int
    header: str
    metadata: dict[str, str]
    finished: bool = False

    @property
    def id(self) -> str:
        """The last part of the upload's address."""
        return base64.urlsafe_b64encode(self.name.encode()).decode().rstrip("=")

    @property
    def name(self) -> str:
        """What the id stands for."""
        return f"{self.bucket}/{self.key}/{self.version}"


class UploadFiles:
    """The uploads' files: `<version>.upload` has the bytes, `<version>.json` the rest. They outlive a restart."""

    def __init__(self, files: Files) -> None:
        self._folder = files.partial_folder

    def create(self, bucket: str, key: str, length: int, header: str, metadata: dict[str, str]) -> Upload:
        """Begin an upload of `length` bytes."""
        upload = Upload(str(uuid4()), bucket, key, length, header, metadata)
        with disk_errors():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._data(upload).touch()
        self._write(upload)
        return upload

    def find(self, name: str) -> Upload | None:
        """Return the upload of that name (bucket, object and version), if there is one."""
        version = name.rpartition("/")[2]
        try:
            upload = Upload(**json.loads((self._folder / f"{UUID(version)}.json").read_text()))
        except (ValueError, FileNotFoundError):
            return None
        return upload if upload.name == name else None

    def offset(self, upload: Upload) -> int:
        """Return how many bytes have come."""
        current = self.find(upload.name)
        return upload.length if current and current.finished else self._size(upload)

    @contextmanager
    def appending(self, upload: Upload) -> Iterator[BinaryIO]:
        """Open the upload for more bytes."""
        with disk_errors():
            file = self._data(upload).open("ab")
        with file:
            yield file

    def received(self, upload: Upload) -> Received:
        """Return the whole file as an object to be put in its place, and remember that it is finished."""
        with disk_errors(), self._data(upload).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        self._write(replace(upload, finished=True))
        custom = upload.metadata.get("metadata")
        return Received(
            self._data(upload),
            upload.length,
            f'"{digest}"',
            upload.metadata.get("contentType", "application/octet-stream"),
            upload.metadata.get("cacheControl", "no-cache"),
            json.loads(custom) if custom else None,
            upload.version,
        )

    def discard(self, upload: Upload) -> None:
        """Forget an upload."""
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
