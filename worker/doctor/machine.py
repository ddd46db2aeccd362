"""Checks of this machine: libmagic, libvips, the temporary folder, and optional settings."""

import asyncio
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Final

from handlers.memory import MIB
from worker.doctor.context import CheckContext
from worker.doctor.result import CheckFailure, CheckWarning
from worker.setting_names import misspelt_names

SIDE: Final = 64


def _sample_png() -> bytes:
    """Return a small PNG, made without the libraries that are checked."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(
        b"\0" + bytes(value % 256 for x in range(SIDE) for value in (x * 4, y * 4, 99)) for y in range(SIDE)
    )
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


async def libmagic(_context: CheckContext) -> str:
    """Libmagic must detect a PNG. The Python package does not include the library."""
    try:
        from handlers.detect import detect  # noqa: PLC0415 - the import itself is checked

        found = await asyncio.to_thread(detect, _sample_png(), None)
    except (ImportError, OSError) as error:
        raise CheckFailure(f"libmagic cannot be used: {error}", "apt-get install libmagic1") from error
    if found.mime_type != "image/png":
        raise CheckFailure(
            f"libmagic detects a PNG as {found.mime_type}", "reinstall libmagic1: its database may be damaged"
        )
    return "detects a PNG"


async def libvips(context: CheckContext) -> str:
    """A codec process must compress a picture, as in a worker."""
    try:
        from worker.resources import Resources  # noqa: PLC0415 - the import itself is checked
    except (ImportError, OSError) as error:
        raise CheckFailure(f"the codec cannot be loaded: {error}", "reinstall Outlast: pip install outlast") from error
    try:
        with tempfile.TemporaryDirectory(prefix="outlast-doctor-") as folder:
            source = Path(folder) / "source"
            source.write_bytes(_sample_png())
            async with Resources(context.settings.model_copy(update={"codec_processes": 1})) as resources:
                codec = resources.codec()
                made = await codec.prepare(source, Path(folder) / "made", "image/png", context.settings.profile)
    except Exception as error:
        remedy = (
            "raise CODEC_MEMORY_MB and CODEC_TIMEOUT_SECONDS; if that does not help, reinstall pyvips and pyvips-binary"
        )
        raise CheckFailure(f"a codec process cannot compress a small picture: {error!r}", remedy) from error
    return f"a codec process converted a PNG of {SIDE} x {SIDE} to {made.content_type}"


async def temp_dir(context: CheckContext) -> str:
    """TEMP_DIR must be writable, and have the space that files in process may take."""
    settings = context.settings
    folder = settings.temp_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        remedy = "set TEMP_DIR to a folder that this user can write to"
        raise CheckFailure(f"{folder} cannot be written to: {error.strerror}", remedy) from error
    recommended = settings.temp_disk_bytes
    if free < 2 * settings.max_file_bytes:
        raise CheckFailure(
            f"{folder} has {free // MIB:,} MiB free, too little for one file", "free disk space, or set TEMP_DIR"
        )
    if free < recommended:
        raise CheckWarning(
            f"{folder} has {free // MIB:,} MiB free; a busy worker may need {recommended // MIB:,}",
            "free disk space, set TEMP_DIR, or lower TEMP_DISK_MB",
        )
    return f"{folder} has {free // MIB:,} MiB free"


async def optional_keys(context: CheckContext) -> str:
    """Optional settings should be set. The warning says what does not work without those that are missing."""
    settings = context.settings
    missing = {
        "API_TOKEN": (settings.api_token is None, "the HTTP API refuses every request"),
        "FAL_KEY": (settings.fal_key is None, "FAL cannot be asked for new links"),
        "FAL_USER_IDS": (not settings.fal_user_ids, "FAL's own webhooks are refused with 403 fal_closed"),
    }
    problems = [f"without {name} {meaning}" for name, (absent, meaning) in missing.items() if absent]
    if problems:
        raise CheckWarning("; ".join(problems), "set them if you need this; `outlast init` generates an API_TOKEN")
    return "API_TOKEN, FAL_KEY and FAL_USER_IDS are set"


async def setting_names(_context: CheckContext) -> str:
    """No name in the environment or `.env` should be a misspelt setting, because it has no effect."""
    if found := misspelt_names():
        names = ", ".join(name.nearest or "" for name in found)
        raise CheckWarning("; ".join(map(str, found)), f"correct the names to {names}, or remove them")
    return "no misspelt setting"
