"""Uploads a file as a worker does: `python -m tests.contracts.upload_process URL KEY BUCKET FILE PATH`.

Prints as JSON whether the object is new (`new`), and the growth of the process's memory in bytes (`growth`).
"""

import asyncio
import json
import sys
from pathlib import Path

from pydantic import SecretStr

from handlers.database.client import Supabase
from handlers.settings import MediaSettings
from handlers.storage.upload_file import UploadFile


def peak_memory() -> int:
    """Return this program's peak memory in bytes; `ru_maxrss` would include its parent's."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


async def main(url: str, key: str, bucket: str, file: str, path: str) -> None:
    settings = MediaSettings(
        _env_file=None, supabase_url=url, supabase_service_role_key=SecretStr(key), storage_bucket=bucket
    )
    async with Supabase(settings) as supabase:
        small = Path(file).with_name("small")
        small.write_bytes(b"x")
        await supabase.put("warm/up", UploadFile.from_path(small, "text/plain"))
        before = peak_memory()
        is_new = await supabase.put(path, UploadFile.from_path(Path(file), "video/mp4"))
        print(json.dumps({"new": is_new, "growth": peak_memory() - before}))  # noqa: T201 - read by the test


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
