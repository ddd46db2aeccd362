"""Process several files in this process, without a queue, and print the progress.

python tests/examples/batch_with_progress.py URL...
"""

import asyncio
import sys
from uuid import uuid4

from handlers.async_file_processor import async_file_processor


def progress(completed: int, total: int, url: str) -> None:
    print(f"[{100 * completed / total:5.1f}%] {url.rsplit('/', 1)[-1]}")


async def main(*urls: str) -> None:
    result = await async_file_processor.process_file_batch(
        urls=list(urls), user_id=uuid4(), generation_id=uuid4(), max_concurrent=3, progress_callback=progress
    )
    for file in result.processed_files:
        print(f"{file.original_filename}: {file.original_size} -> {file.file_size} bytes, {file.content_type}")
    for failed in result.failed_files:
        print(f"failed: {failed['url']}: {failed['code']}: {failed['error']}")
    print(f"{len(result.processed_files)} of {result.total_files} in {result.processing_time:.2f} s")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
