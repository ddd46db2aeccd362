"""Tasks in the console: cancel, submit again, files, search and pages."""

import pytest

from schemas.variants import parse_variants


async def test_a_running_task_can_be_cancelled(operator, worker_env, source):
    job = worker_env.job(f"{source.url}/files/photo.png?slow=20000")
    await worker_env.send(job)
    await worker_env.wait_until_running()
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    assert await operator.page.locator(".timeline .running").count() > 0
    await operator.page.click("text=Cancel this task")
    await operator.page.wait_for_selector(".timeline .cancelled")
    assert (await worker_env.task(job))["status"] == "cancelled"
    await worker_env.wait_for_outcome("cancelled")


async def test_a_failed_task_can_be_submitted_again(operator, worker_env, source):
    missing = source.folder / "late.png"
    job = worker_env.job(f"{source.url}/files/late.png")
    await worker_env.send(job)
    await worker_env.wait_for_outcome("failed")
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    assert "source_gone in download at 127.0.0.1" in await operator.page.inner_text(".timeline")
    missing.write_bytes((source.folder / "photo.png").read_bytes())
    try:
        await operator.page.click("text=Submit again")
        await operator.page.wait_for_selector(".timeline .completed")
    finally:
        missing.unlink()
    assert (await operator.page.locator(".timeline .status").all_inner_texts())[-2:] == ["failed", "completed"]
    file = await operator.page.inner_text(".files li")
    assert file.count("1024") == 2
    assert "→" in file
    await operator.open("history")
    assert "submitted again" in await operator.page.inner_text("tbody")


@pytest.mark.settings(variants=parse_variants("thumb:128,square:200x200,large:300,audio:waveform"))
async def test_files_are_shown_from_storage_with_links_to_object_and_generation(operator, worker_env, source):
    job = worker_env.job(*(f"{source.url}/files/{name}" for name in ("photo.png", "tone.mp3", "clip.mp4")))
    await worker_env.sql.execute("insert into generations (id, status) values ($1, 'completed')", job.generation_id)
    await worker_env.send(job)
    await worker_env.wait_for_outcome("completed")
    again = worker_env.job(f"{source.url}/files/photo.png")
    await worker_env.send(again)
    await worker_env.wait_for_outcome("completed", count=2)
    page = operator.page
    await operator.open(f"tasks/{again.task_id}")
    await operator.sign_in()
    assert "deduplicated" in await page.inner_text(".files")
    await operator.open(f"tasks/{job.task_id}")
    sizes = "[...document.querySelectorAll('.files img')].map(each => each.naturalWidth).join()"
    await operator.until(f"{sizes} === '128,1024,128'")  # of a picture, the waveform, and the poster of a video
    shown = await page.get_attribute(".files img", "src")
    assert "large-" in (await page.get_attribute(".files img", "srcset")).partition(" 1x, ")[2]
    assert shown.startswith(f"{worker_env.gateway.url}/storage/v1/object/sign/generations/u/")
    await page.reload()
    assert await page.get_attribute(".files img", "src") == shown, "a reload must return the same link, for the cache"
    sound = await page.locator("a.mono", has_text=".mp3").get_attribute("href")
    assert (await page.request.get(sound)).headers["content-type"] == "audio/mpeg"
    await page.get_by_role("link", name=job.generation_id).click()
    await page.wait_for_selector("h1:has-text('Generation')")
    assert "completed, 3 of 3 files stored" in await page.inner_text(".facts")
    assert "public.generations" in await page.inner_text(".facts")
    await operator.until(f"{sizes} === '128,1024,128'")
    await page.get_by_role("link", name=str(job.task_id)[:8]).click()
    await page.wait_for_url(f"**/tasks/{job.task_id}")


async def test_tasks_are_searched_filtered_and_paged(operator, worker_env):
    await worker_env.worker.stop(0)
    await worker_env.sql.execute(
        "insert into outlast_tasks (task_id, generation_id, user_id, status, queue, created_at)"
        " select gen_random_uuid(), 'g' || i, 'u' || i % 2, 'queued', 'file_processing', now() - i * interval '1 s'"
        " from generate_series(1, 120) i"
    )
    await operator.open("tasks")
    await operator.sign_in()
    seen = []
    for _ in range(3):
        seen += await operator.page.locator("tbody td:nth-child(7)").all_inner_texts()
        older = operator.page.locator("a[rel=next]")
        if await older.count():
            await older.click()
            await operator.page.wait_for_url("**before=**")
    assert sorted(seen) == sorted(f"g{number}" for number in range(1, 121))
    for query, count in (("q=g7", 1), ("q=u1", 50), ("status=failed", 0), ("since=2999-01-01", 0), ("queue=bulk", 0)):
        await operator.open(f"tasks?{query}")
        assert await operator.page.locator("tbody tr").count() == count
    assert (await operator.open("tasks?since=soon")).status == 422
