"""Queue a background task, poll its status every two seconds, and cancel it when it takes too long.

python tests/examples/polling.py URL...
"""

import asyncio
import sys
from uuid import uuid4

from worker.background_tasks import task_manager

PATIENCE_SECONDS = 60


async def main(*urls: str) -> None:
    task_id = await task_manager.queue_file_processing(list(urls), uuid4(), uuid4())
    for _ in range(PATIENCE_SECONDS // 2):
        status = await task_manager.get_task_status(task_id)
        print(f"{status['status']}")
        if status["ready"]:
            return
        await asyncio.sleep(2)
    print("cancelled" if await task_manager.cancel_task(task_id) else "it has just ended")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
