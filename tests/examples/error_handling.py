"""The errors of a file, and how to tell them apart.

python tests/examples/error_handling.py URL...
"""

import asyncio
import sys

from handlers.async_file_processor import (
    FileProcessingError,
    FileSizeExceededError,
    FileTypeNotSupportedError,
    async_file_processor,
)

LARGEST = 10 * 1024 * 1024


async def describe(url: str) -> str:
    data = await async_file_processor.download_fal_file(url, max_size=LARGEST)
    content_type, _, is_valid = async_file_processor.detect_file_type(data, url)
    if not is_valid:
        raise FileTypeNotSupportedError(f"{content_type} is not stored")
    if not await asyncio.to_thread(async_file_processor.validate_file_integrity, data, content_type):
        raise FileProcessingError("it does not decode whole", code="corrupted")
    return f"{len(data):,} bytes of {content_type}"


async def main(*urls: str) -> None:
    for url in urls:
        try:
            description = await describe(url)
        except FileSizeExceededError as error:
            description = f"too large: {error}"
        except FileTypeNotSupportedError as error:
            description = f"not supported: {error}"
        except FileProcessingError as error:
            description = f"{error.code}: {error}; {'worth another try' if error.retryable else 'final'}"
        print(f"{url}: {description}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
