"""What the steps of the pipeline receive: the batch, their dependencies, and the state of one file."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.download.disk_space import DiskSpace
from handlers.download.file_writer import DownloadedFile
from handlers.media import MediaType, Prepared
from handlers.observer import AttemptHooks, Observer
from handlers.pipeline.early import EarlyDownload
from handlers.settings import MediaSettings
from handlers.storage import Storage, object_path
from schemas.files import ProcessedFile
from schemas.jobs import DEFAULT_BINDING, JobFile, Profile


@dataclass(frozen=True, slots=True)
class Batch:
    """The files to process, their owner and generation, and how they are to be stored.

    `on_progress` is called with (file, downloaded, total) in bytes while a file arrives. A file is started only while
    `may_start()` is true. With `sees_storage` the database checks `storage.objects` itself when a stored file is
    found and when a task is finished, so the pipeline sends no request to Storage for this. A URL that must not be
    requested is reported to the observer if `count_denied`. `bucket` and `folders` are those of the binding, if it
    names any. `early` is the download of the only file, if it has started already. `known` are stored files of the
    user from the same URLs as some of these files; the content of these URLs never changes.
    """

    files: tuple[JobFile, ...]
    user_id: str | None
    generation_id: str
    profile: Profile
    max_concurrent: int
    binding: str = DEFAULT_BINDING
    on_progress: Callable[[JobFile, int, int], None] | None = None
    may_start: Callable[[], bool] = lambda: True
    hooks: AttemptHooks = field(default_factory=AttemptHooks)
    sees_storage: bool = False
    count_denied: bool = True
    bucket: str | None = None
    folders: Sequence[str | None] | None = None
    early: EarlyDownload | None = None
    known: Sequence[ProcessedFile] = ()

    def path_of(self, sha256: str, extension: str) -> str:
        """Return the path of an object of this batch."""
        return object_path(self.user_id, sha256, extension, self.folders)

    def storage_of(self, storage: Storage) -> Storage:
        """Return the storage of the binding's bucket."""
        return storage if self.bucket is None else storage.in_bucket(self.bucket)


@dataclass(frozen=True, slots=True)
class PipelineDeps:
    """The dependencies of the steps.

    The last four call the database and are None without one. Then no stored file is found again (`find_stored`), no
    reference to a `data:` URI is resolved (`read_data_uri`), and objects are not registered (`claim_object`, and
    `claim_objects` for a picture with variants).
    """

    settings: MediaSettings
    downloader: Downloader
    codec: Codec
    storage: Storage
    observer: Observer
    find_stored: Callable[[str | None, str, str], Awaitable[ProcessedFile | None]] | None = None
    read_data_uri: Callable[[str, str, str], Awaitable[str]] | None = None
    claim_object: Callable[[str, str, str | None], Awaitable[None]] | None = None
    claim_objects: Callable[[str, Sequence[str], str | None], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class FileState:
    """One file and the results of its steps so far. `folder` is its temporary folder, `space` its disk space."""

    file: JobFile
    batch: Batch
    folder: Path
    space: DiskSpace
    downloaded: DownloadedFile | None = None
    media: MediaType | None = None
    prepared: Prepared | None = None
    stored: ProcessedFile | None = None
