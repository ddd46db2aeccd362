"""Queue files as a background task for the workers, and wait for its result.

python tests/examples/background_task.py URL...
"""

import asyncio
import sys
from uuid import uuid4

from worker.background_tasks import task_manager


async def main(*urls: str) -> None:
    async with task_manager:
        task_id = await task_manager.queue_file_processing(
            urls=list(urls),
            user_id=uuid4(),
            generation_id=uuid4(),
            task_options={"max_concurrent": 2, "quality": 85},
        )
        print(f"queued: {task_id}")
        async for status in task_manager.watch(task_id):
            print(f"{status['status']}: {status['progress']}")
    if status["successful"]:
        result = status["result"]
        print(f"{result['successful_files']} of {result['total_files']} in {result['processing_time']:.2f} s")
        print("\n".join(result["processed_file_ids"]))
    else:
        sys.exit(f"failed: {status['error']}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
