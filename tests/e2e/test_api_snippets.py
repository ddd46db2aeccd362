"""The storage examples of the API documentation run as scripts; only imports and URLs are changed."""

import asyncio
import os
import sys

import pytest

from tests.time_limits import LONG_WAIT_SECONDS

SINGLE_FILE = """
import asyncio
from uuid import uuid4
from handlers.async_file_processor import async_file_processor
from schemas.storage import FileUploadRequest, StorageBucket, ContentType

async def process_single_file():
    try:
        # Download file
        file_data = await async_file_processor.download_fal_file(
            "{source}/files/photo.jpg"
        )

        # Detect and validate file type
        content_type, extension, is_valid = async_file_processor.detect_file_type(file_data)

        if not is_valid:
            raise ValueError(f"Unsupported file type: {{content_type}}")

        # Validate integrity
        if not async_file_processor.validate_file_integrity(file_data, content_type):
            raise ValueError("File integrity check failed")

        # Process through storage service
        from handlers.storage_service import storage_service

        upload_request = FileUploadRequest(
            bucket_name=StorageBucket.GENERATIONS,
            filename=f"processed.{{extension}}",
            content_type=ContentType(content_type),
            file_size=len(file_data)
        )

        result = await storage_service.upload_file(
            user_id=uuid4(),
            file_data=file_data,
            upload_request=upload_request
        )

        print(f"File processed successfully: {{result.id}}")

    except Exception as e:
        print(f"Processing failed: {{e}}")

asyncio.run(process_single_file())
"""
INTEGRATION = """
import asyncio
from uuid import uuid4

user_id, generation_id = uuid4(), uuid4()
fal_output_urls = ["{source}/files/photo.jpg", "{source}/files/tone.wav"]

async def integrate():
    from handlers.storage_service import storage_service
    from handlers.async_file_processor import async_file_processor

    # Process and store files
    result = await storage_service.upload_generation_result(
        user_id=user_id,
        generation_id=generation_id,
        file_urls=fal_output_urls
    )

    from handlers.generation_service import generation_service

    # Update generation with processed files
    await generation_service.update_generation_media(
        generation_id=generation_id,
        processed_files=result.processed_files
    )
    print(f"{{len(result.processed_files)}} files, all well: {{result.success}}")

asyncio.run(integrate())
"""


@pytest.mark.parametrize(
    ("snippet", "message"), [(SINGLE_FILE, "File processed successfully: "), (INTEGRATION, "2 files, all well: True")]
)
async def test_documented_snippet_runs_as_a_script(stack, tmp_path, snippet, message):
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SUPABASE_URL": stack.endpoints.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.endpoints.service_role_key,
        "SOURCE_ALLOWLIST": stack.source.url,
        "CODEC_PROCESSES": "1",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", snippet.format(source=stack.source.url)),
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    assert process.returncode == 0, err.decode()
    assert message in out.decode()
