"""A completed generation from its webhook to the stored files, through all real parts."""

import asyncio
import base64
import hashlib
import json
from uuid import uuid4

import aiohttp
import pytest

from tests.time_limits import LONG_WAIT_SECONDS

ENDED = {"completed", "partial", "failed", "cancelled"}


def generation(output, **more):
    return {"id": str(uuid4()), "user_id": str(uuid4()), "status": "processing", "output": output} | more


async def complete(project, row):
    """Insert the row and complete it later, as an app does. The trigger sends the webhook."""
    await project.insert("generations", {**row, "output": None})
    await project.update("generations", f"id=eq.{row['id']}", {"status": "completed", "output": row["output"]})


async def wait_until_ended(project, row, tasks=1):
    """Wait until the generation's tasks have ended; return them."""
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            found = await project.select("outlast_tasks", f"generation_id=eq.{row['id']}")
            if len(found) >= tasks and all(task["status"] in ENDED for task in found):
                return found
            await asyncio.sleep(0.1)


async def media(project, row):
    (found,) = await project.select("generations", f"id=eq.{row['id']}&select=media,media_status")
    return found["media_status"], found["media"]


async def test_every_sample_is_stored_as_recorded(stack, project):
    names = [sample.name for sample in stack.samples]
    row = generation(stack.source.output(names[:10]))
    await complete(project, row)
    (task,) = await wait_until_ended(project, row)
    assert task["status"] == "completed"
    status, media_list = await media(project, row)
    assert status == "completed"
    assert len(media_list) == len(names[:10])
    for entry in media_list:
        content = await project.download(entry["bucket"], entry["path"])
        assert hashlib.sha256(content).hexdigest() == entry["sha256"]
        assert len(content) == entry["file_size"]
        assert entry["path"].startswith(f"{row['user_id']}/{entry['sha256'][:2]}/{entry['sha256']}.")
        on_disk = stack.data_dir / "storage" / entry["bucket"] / entry["path"]
        assert on_disk.read_bytes() == content
    files = await project.select("outlast_files", f"generation_id=eq.{row['id']}&select=original_filename,frames")
    frames = {file["original_filename"]: file["frames"] for file in files}
    assert (frames["animation.gif"], frames["photo.png"], frames["tone.mp3"]) == (6, 1, None)
    assert frames["clip.mp4"] > 10


async def test_our_own_row_update_creates_no_task(stack, project):
    row = generation(stack.source.output([stack.samples[0].name]))
    await complete(project, row)
    await wait_until_ended(project, row)
    hits = stack.source.hits[stack.samples[0].name]
    await project.update("generations", f"id=eq.{row['id']}", {"prompt": "another"})
    follow_up = generation(stack.source.output([stack.samples[1].name]))
    await complete(project, follow_up)
    await wait_until_ended(project, follow_up)
    assert len(await project.select("outlast_tasks", f"generation_id=eq.{row['id']}")) == 1
    assert stack.source.hits[stack.samples[0].name] == hits


async def test_same_bytes_of_one_user_are_stored_once(stack, project):
    name, user = stack.samples[2].name, str(uuid4())
    rows = [generation(stack.source.output([name]), user_id=user) for _ in range(3)]
    for row in rows:
        await complete(project, row)
        await wait_until_ended(project, row)
    paths = {(await media(project, row))[1][0]["path"] for row in rows}
    assert len(paths) == 1
    (stored,) = await project.select("outlast_objects", f"path=eq.{paths.pop()}")
    assert stored["refs"] == 3


async def test_fal_webhook_finds_the_generation_by_request_id(stack, project):
    row = generation(None, request_id=str(uuid4()))
    await project.insert("generations", row)
    payload = stack.source.output([stack.samples[0].name])
    body = json.dumps({"request_id": row["request_id"], "status": "OK", "payload": payload}).encode()
    headers = stack.source.sign(body, row["request_id"], "acct") | {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.receiver_url}/webhooks/fal", data=body, headers=headers) as response,
    ):
        assert response.status == 202
    (task,) = await wait_until_ended(project, row)
    assert (task["status"], task["source"]) == ("completed", "fal")
    assert (await media(project, row))[0] == "completed"


async def test_both_webhooks_of_a_generation_make_one_media_list(stack, project):
    row = generation(stack.source.output([sample.name for sample in stack.samples[:2]]), request_id=str(uuid4()))
    await complete(project, row)
    body = json.dumps({"request_id": row["request_id"], "status": "OK", "payload": row["output"]}).encode()
    headers = stack.source.sign(body, row["request_id"], "acct") | {"Content-Type": "application/json"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{stack.receiver_url}/webhooks/fal", data=body, headers=headers) as response,
    ):
        assert response.status == 202
    await wait_until_ended(project, row, tasks=2)
    status, media_list = await media(project, row)
    assert status == "completed"
    assert len({entry["id"] for entry in media_list}) == len(media_list) == 2


def good_and_bad(stack, query):
    good, bad = stack.samples[0].name, stack.samples[1].name
    return generation([f"{stack.source.url}/files/{good}", f"{stack.source.url}/files/{bad}?{query}"])


async def test_missing_file_does_not_prevent_storing_the_others(stack, project):
    row = good_and_bad(stack, "status=410")
    await complete(project, row)
    (task,) = await wait_until_ended(project, row)
    assert task["status"] == "partial"
    assert [failed["code"] for failed in task["failed"]] == ["source_gone"]
    assert "?" not in task["failed"][0]["url"]
    status, media_list = await media(project, row)
    assert status == "partial"
    assert [(entry["position"], entry["field"], entry["status"], entry.get("code")) for entry in media_list] == [
        (0, "[0]", "stored", None),
        (1, "[1]", "failed", "source_gone"),
    ]
    assert media_list[1]["source_url"] == task["failed"][0]["url"]


@pytest.mark.parametrize("query", ["status=503", "truncate=1000"])
async def test_unavailable_file_is_retried_while_the_others_are_stored(stack, project, query):
    row = good_and_bad(stack, query)
    await complete(project, row)
    async with asyncio.timeout(LONG_WAIT_SECONDS):
        while True:
            found = await project.select("outlast_tasks", f"generation_id=eq.{row['id']}&status=eq.retrying")
            if found:
                break
            await asyncio.sleep(0.1)
    stored = await project.select("outlast_files", f"generation_id=eq.{row['id']}")
    assert [file["original_filename"] for file in stored] == [stack.samples[0].name]
    assert (await media(project, row))[0] == "pending"


@pytest.mark.usefixtures("stack")
async def test_source_outside_the_allowlist_is_forbidden(project):
    row = generation({"image": {"url": "http://127.0.0.1:9/inside.png"}})
    await complete(project, row)
    (task,) = await wait_until_ended(project, row)
    assert task["status"] == "failed"
    assert task["failed"][0]["code"] == "source_forbidden"
    assert (await media(project, row))[0] == "failed"


async def test_inline_content_larger_than_a_message_is_read_from_the_row(stack, project):
    picture = next(sample for sample in stack.samples if sample.name.endswith(".png"))
    content = picture.path.read_bytes()
    # Padding after the picture makes the URI larger than any job; PNG readers ignore it.
    uri = "data:image/png;base64," + base64.b64encode(content + bytes(max(0, 6_400_000 - len(content)))).decode()
    row = generation({"images": [{"url": uri}]})
    await complete(project, row)
    (task,) = await wait_until_ended(project, row)
    assert task["status"] == "completed"
    (file,) = await project.select("outlast_files", f"generation_id=eq.{row['id']}")
    assert file["source_url"].startswith("data:image/png;sha256=")


async def test_worker_serves_metrics_and_readiness(stack):
    url = stack.endpoints.worker_metrics_urls[0]
    async with aiohttp.ClientSession() as session:
        async with session.get(url) as response:
            text = await response.text()
        async with session.get(url.replace("/metrics", "/readyz")) as response:
            assert response.status == 200
    assert 'outlast_jobs_total{outcome="completed",queue="file_processing"}' in text
    assert "outlast_stage_duration_seconds_bucket" in text


async def test_no_secret_and_no_signature_is_in_any_log(stack, project):
    row = generation([f"{stack.source.url}/files/{stack.samples[0].name}?X-Goog-Signature=topsecret"])
    await complete(project, row)
    await wait_until_ended(project, row)
    secrets = [
        stack.endpoints.service_role_key,
        stack.endpoints.webhook_secret,
        stack.endpoints.jwt_secret,
        "topsecret",
    ]
    text = "".join(path.read_text(errors="replace") for path in (stack.data_dir / "log").glob("[rw]*er*.log"))
    assert "attempt ended" in text
    assert [secret for secret in secrets if secret in text] == []
    rows = json.dumps(await project.select("outlast_files", "") + await project.select("outlast_tasks", ""))
    assert "topsecret" not in rows
