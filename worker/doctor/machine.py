"""This machine: can it decode, tell types, and keep files while it works on them?"""

import asyncio
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Final

from worker.doctor.context import CheckContext
from worker.doctor.result import Concern, Failure

MIB: Final = 1024 * 1024
SIDE: Final = 64


def _picture() -> bytes:
    """Return a small PNG, made without any library that is to be examined."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(
        b"\0" + bytes(value % 256 for x in range(SIDE) for value in (x * 4, y * 4, 99)) for y in range(SIDE)
    )
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def libmagic(_site: CheckContext) -> str:
    """Types are decided from content by libmagic, which Python's package does not bring along."""
    try:
        from handlers.detect import detect  # noqa: PLC0415 - whether this can be imported is the question

        found = await asyncio.to_thread(detect, _picture(), None)
    except (ImportError, OSError) as error:
        raise Failure(f"libmagic cannot be used: {error}", "apt-get install libmagic1") from error
    if found.mime_type != "image/png":
        raise Failure(f"libmagic takes a PNG for {found.mime_type}", "reinstall libmagic1: its database may be broken")
    return "knows a PNG"


async def libvips(site: CheckContext) -> str:
    """A picture goes through a real codec process, as it would in a worker."""
    try:
        from worker.resources import Resources  # noqa: PLC0415 - the same
    except (ImportError, OSError) as error:
        raise Failure(f"the codec cannot be loaded: {error}", "reinstall Outlast: pip install outlast") from error
    try:
        with tempfile.TemporaryDirectory(prefix="outlast-doctor-") as folder:
            source = Path(folder) / "source"
            source.write_bytes(_picture())
            async with Resources(site.settings.model_copy(update={"codec_processes": 1})) as resources:
                codec = resources.codec()
                made = await codec.prepare(source, Path(folder) / "made", "image/png", site.settings.profile)
    except Exception as error:
        remedy = "raise CODEC_MEMORY_MB and CODEC_TIMEOUT_SECONDS; else reinstall pyvips and pyvips-binary"
        raise Failure(f"a codec process cannot compress a small picture: {error!r}", remedy) from error
    return f"a codec process made a PNG of {SIDE} x {SIDE} into {made.content_type}"


async def temp_dir(site: CheckContext) -> str:
    """Files lie in TEMP_DIR while they are processed: source and result of every file in flight."""
    settings = site.settings
    folder = settings.temp_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "set TEMP_DIR to a folder this user may write to"
        raise Failure(f"{folder} cannot be written to: {error.strerror}", remedy) from error
    wanted = 2 * settings.max_file_bytes * settings.max_concurrent * settings.worker_concurrency
    if free < 2 * settings.max_file_bytes:
        raise Failure(f"{folder} has {free // MIB:,} MiB left, too little for one file", "make room, or set TEMP_DIR")
    if free < wanted:
        raise Concern(
            f"{folder} has {free // MIB:,} MiB left; a busy worker may need {wanted // MIB:,}",
            "make room, set TEMP_DIR, or lower WORKER_CONCURRENCY, MAX_CONCURRENT or MAX_FILE_SIZE_MB",
        )
    return f"{folder} has {free // MIB:,} MiB left"


async def optional_keys(site: CheckContext) -> str:
    """What works without them, and what does not."""
    settings = site.settings
    missing = {
        "API_TOKEN": (settings.api_token is None, "the HTTP API refuses everybody"),
        "FAL_KEY": (settings.fal_key is None, "expired links cannot be asked for again"),
        "FAL_USER_IDS": (not settings.fal_user_ids, "FAL's own webhooks are taken for any FAL account"),
    }
    said = [f"without {name} {meaning}" for name, (absent, meaning) in missing.items() if absent]
    if said:
        raise Concern("; ".join(said), "set them where you need that; `outlast init` makes an API_TOKEN")
    return "API_TOKEN, FAL_KEY and FAL_USER_IDS are set"
