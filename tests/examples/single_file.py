"""Process one file step by step: download, detect its type, check its integrity, store it.

python tests/examples/single_file.py URL
"""

import asyncio
import sys
from uuid import uuid4

from handlers.async_file_processor import async_file_processor
from handlers.storage_service import storage_service
from schemas.storage import ContentType, FileUploadRequest, StorageBucket


async def main(url: str) -> None:
    data = await async_file_processor.download_fal_file(url)
    content_type, extension, is_valid = async_file_processor.detect_file_type(data)
    if not is_valid:
        sys.exit(f"not stored: {content_type}")
    if not async_file_processor.validate_file_integrity(data, content_type):
        sys.exit("the file is damaged")
    request = FileUploadRequest(
        bucket_name=StorageBucket.GENERATIONS,
        filename=f"processed.{extension}",
        content_type=ContentType(content_type),
        file_size=len(data),
    )
    stored = await storage_service.upload_file(user_id=uuid4(), file_data=data, upload_request=request)
    print(f"stored as {stored.id}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
