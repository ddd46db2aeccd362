"""A Celery application like a user's: sends one task and prints its result as JSON. Run as a separate program."""

import json
import sys

from celery import Celery
from celery.exceptions import TaskRevokedError


def main() -> None:
    asked = json.loads(sys.argv[1])
    app = Celery("theirs", broker=asked["broker"], backend="rpc://")
    app.conf.task_default_queue = "file_processing"
    sent = app.send_task(
        asked.get("task", "process_files"), args=asked.get("args"), kwargs=asked.get("kwargs"), **asked.get("more", {})
    )
    if asked.get("forget"):
        sys.stdout.write(json.dumps({"sent": sent.id}))
        return
    try:
        told = {"result": sent.get(timeout=120), "status": sent.status, "id": sent.id}
    except TaskRevokedError as error:
        told = {"revoked": str(error)}
    except Exception as error:  # noqa: BLE001 - Celery creates the exception class from its name
        told = {"raised": type(error).__name__, "said": str(error)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
