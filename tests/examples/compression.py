"""One picture at several qualities.

python tests/examples/compression.py URL
"""

import asyncio
import sys

from handlers.async_file_processor import async_file_processor


async def main(url: str) -> None:
    original = await async_file_processor.download_fal_file(url)
    print(f"original: {len(original):,} bytes")
    for quality in (95, 85, 75, 65):
        small = await async_file_processor.compress_image(original, quality=quality)
        print(f"quality {quality}: {len(small):,} bytes ({100 * (1 - len(small) / len(original)):.1f}% saved)")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
