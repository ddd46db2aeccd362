"""Every sample goes through the pipeline, from its source to the storage, and gets its type and extension."""

import mimetypes
from pathlib import Path

import pytest

from handlers.codec.codec import Codec
from handlers.download import Downloader
from handlers.media import BY_CONTENT_TYPE, Kind
from handlers.observer import Observer
from handlers.pipeline import process
from handlers.pipeline.state import Batch, PipelineDeps
from handlers.settings import MediaSettings
from handlers.storage import FolderStorage
from schemas.formats import ImageFormat
from schemas.jobs import JobFile, Profile
from tests.hostile.raw_server import RawServer, head, send
from tests.media_samples import media_sample

pytestmark = pytest.mark.slow


async def test_a_sample_is_stored_under_its_own_type(codec: Codec, tmp_path: Path, name: str) -> None:
    sample = media_sample(name)

    async def respond(writer, _request):
        await send(writer, head(content_length=len(sample.content)), sample.content)

    async with RawServer(respond) as source:
        settings = MediaSettings(_env_file=None, source_allowlist=source.url, temp_dir=tmp_path)
        file = JobFile(position=0, url=f"{source.url}/liar.exe", source_key="0" * 32, file_name="liar.html")
        profile = Profile(format=ImageFormat.KEEP).with_variants("thumb:40,audio:waveform")
        batch = Batch((file,), "user", "generation", profile, 1)
        async with Downloader(settings) as downloader:
            deps = PipelineDeps(settings, downloader, codec, FolderStorage(tmp_path / "stored", "b"), Observer())
            result = await process(batch, deps)
    assert result.failed == []
    (stored,) = result.stored
    assert stored.content_type == sample.content_type
    assert stored.path.endswith(f".{BY_CONTENT_TYPE[sample.content_type].extension}")
    assert (tmp_path / "stored" / stored.path).read_bytes() == sample.content
    kind = BY_CONTENT_TYPE[sample.content_type].kind
    if kind in {Kind.VIDEO, Kind.AUDIO}:
        assert (stored.thumbhash is not None) is (kind is Kind.VIDEO)
        assert [variant.name for variant in stored.variants or ()] == ["thumb" if kind is Kind.VIDEO else "audio"]


def test_no_extension_means_a_program() -> None:
    programs = {"exe", "js", "html", "htm", "sh", "bat", "php", "xhtml", "jar", "dll"}
    assert not {media.extension for media in BY_CONTENT_TYPE.values()} & programs
    assert mimetypes.guess_type("a.svg")[0] in BY_CONTENT_TYPE
