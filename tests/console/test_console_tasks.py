"""Tasks: a running one cancelled, and many found and paged."""


async def test_a_running_task_is_cancelled_and_says_so(operator, bench, source):
    job = bench.job(f"{source.url}/files/photo.png?slow=20000")
    await bench.send(job)
    await bench.running()
    await operator.open(f"tasks/{job.task_id}")
    await operator.sign_in()
    assert await operator.page.locator(".timeline .running").count() > 0
    await operator.page.click("text=Cancel this task")
    await operator.page.wait_for_selector(".timeline .cancelled")
    assert (await bench.task(job))["status"] == "cancelled"
    await bench.outcome("cancelled")


async def test_tasks_are_found_by_what_is_known_of_them_and_paged(operator, bench):
    await bench.crew.stop(0)
    await bench.sql.execute(
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
    assert (await operator.open("tasks?since=yesterday")).status == 422
