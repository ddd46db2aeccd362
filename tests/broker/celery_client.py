"""A Celery application like a user's: sends one task and prints its result as JSON. Run as a separate program."""

import json
import sys
from uuid import UUID

from celery import Celery
from celery.exceptions import TaskRevokedError


def main() -> None:
    request = json.loads(sys.argv[1])
    app = Celery("theirs", broker=request["broker"], backend="rpc://")
    app.conf.task_default_queue = "file_processing"
    options = request.get("more", {})
    if "link" in options:
        options["link"] = app.signature(options["link"])
    kwargs = request.get("kwargs")
    if request.get("uuids"):
        kwargs |= {name: UUID(kwargs[name]) for name in ("user_id", "generation_id")}
    sent = app.send_task(request.get("task", "process_files"), args=request.get("args"), kwargs=kwargs, **options)
    if request.get("forget"):
        sys.stdout.write(json.dumps({"sent": sent.id}))
        return
    try:
        result = {"result": sent.get(timeout=120), "status": sent.status, "id": sent.id}
    except TaskRevokedError as error:
        result = {"revoked": str(error)}
    except Exception as error:  # noqa: BLE001 - Celery creates the exception class from its name
        result = {"raised": type(error).__name__, "message": str(error)}
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main()
