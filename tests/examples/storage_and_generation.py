"""Store the files of a generation from your own code, then write them to its row.

python tests/examples/storage_and_generation.py GENERATION USER URL...
"""

import asyncio
import sys

from handlers.generation_service import generation_service
from handlers.storage_service import storage_service


async def main(generation_id: str, user_id: str, *urls: str) -> None:
    result = await storage_service.upload_generation_result(
        user_id=user_id, generation_id=generation_id, file_urls=list(urls)
    )
    await generation_service.update_generation_media(
        generation_id=generation_id, processed_files=result.processed_files
    )
    print(f"{len(result.processed_files)} files on generation {generation_id}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
