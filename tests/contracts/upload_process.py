"""A worker's upload in a process of its own: `python -m tests.contracts.upload_process URL KEY BUCKET FILE PATH`.

Prints as JSON whether the object is new, and by how many bytes the process's memory grew at most.
"""

import asyncio
import json
import sys
from pathlib import Path

from pydantic import SecretStr

from handlers.database.client import Supabase
from handlers.settings import MediaSettings
from handlers.storage.upload_file import UploadFile


def largest() -> int:
    """The most memory this program ever had, in bytes; `ru_maxrss` would tell its parent's, if that had more."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].split()[0]) * 1024


async def main(url: str, key: str, bucket: str, file: str, path: str) -> None:
    settings = MediaSettings(
        _env_file=None, supabase_url=url, supabase_service_role_key=SecretStr(key), storage_bucket=bucket
    )
    async with Supabase(settings) as supabase:
        small = Path(file).with_name("small")
        small.write_bytes(b"x")
        await supabase.put("warm/up", UploadFile.of(small, "text/plain"))
        before = largest()
        is_new = await supabase.put(path, UploadFile.of(Path(file), "video/mp4"))
        print(json.dumps({"new": is_new, "grown": largest() - before}))  # noqa: T201 - its answer


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
