"""The alternative that users would write: a Celery task with requests, Pillow and storage3, written well.

One HTTP session and one Storage client per process, one decode, JPEG at quality 85 or WebP for transparent images,
the object named by its hash, the generation's row updated. It has none of Outlast's checks, retries and records.
"""

import hashlib
import io
import json
import os

import requests
from celery import Celery
from PIL import Image
from storage3 import SyncStorageClient

QUALITY = 85
BUCKET = "generations"
QUEUE = "peer"
URL, KEY = os.environ.get("SUPABASE_URL", ""), os.environ.get("SUPABASE_SERVICE_ROLE_KEY", "")
HEADERS = {"apikey": KEY, "Authorization": f"Bearer {KEY}"}

app = Celery("peer", broker=os.environ.get("RABBITMQ_URL"))
app.conf.update(
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=2,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
_session: requests.Session | None = None
_storage: SyncStorageClient | None = None


def session() -> requests.Session:
    global _session  # noqa: PLW0603 - one per process, created after the fork
    _session = _session or requests.Session()
    return _session


def storage() -> SyncStorageClient:
    global _storage  # noqa: PLW0603 - the same
    _storage = _storage or SyncStorageClient(f"{URL}/storage/v1/", HEADERS)
    return _storage


@app.task(name="peer.store_file")
def store_file(url: str, user_id: str, generation_id: str) -> None:
    """Download, compress and store one file, and update its generation's row."""
    answer = session().get(url, timeout=60)
    answer.raise_for_status()
    body, content_type, extension = compressed(answer.content, answer.headers["Content-Type"])
    digest = hashlib.sha256(body).hexdigest()
    path = f"{user_id}/{digest[:2]}/{digest}.{extension}"
    storage().from_(BUCKET).upload(
        path, body, {"content-type": content_type, "cache-control": "31536000", "upsert": "true"}
    )
    media = [{"bucket": BUCKET, "path": path, "content_type": content_type, "sha256": digest, "file_size": len(body)}]
    row = session().patch(
        f"{URL}/rest/v1/generations?id=eq.{generation_id}",
        data=json.dumps({"media": media, "media_status": "completed"}),
        headers={**HEADERS, "Content-Type": "application/json", "Prefer": "return=minimal"},
        timeout=60,
    )
    row.raise_for_status()


@app.task(name="peer.nothing")
def nothing(_body: str) -> None:
    """Do nothing, to measure the queue alone."""


def compressed(body: bytes, content_type: str) -> tuple[bytes, str, str]:
    """Return the stored bytes, their content type and the extension."""
    if not content_type.startswith("image/") or content_type == "image/gif":
        return body, content_type, content_type.partition("/")[2]
    with Image.open(io.BytesIO(body)) as image:
        out = io.BytesIO()
        if image.mode in {"RGBA", "LA"}:
            image.save(out, "WEBP", quality=QUALITY)
            return out.getvalue(), "image/webp", "webp"
        image.convert("RGB").save(out, "JPEG", quality=QUALITY)
        return out.getvalue(), "image/jpeg", "jpg"
