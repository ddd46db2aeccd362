"""Dead letters in the console: replay, discard, restore, notes and filters, with one and with two operators."""

import asyncio

import pytest

from tests.console.conftest import READ_TOKEN, another_operator
from tests.time_limits import WAIT_SECONDS


async def add_thirty_dead_letters(vhost, url):
    for number in range(30):
        code = ("source_unavailable", "corrupted", "storage_rejected")[number % 3]
        job = vhost.job(f"{url}/{number}.png")
        await vhost.dead_letter(job, code, f"{code} number {number}", "download", minutes=number)


async def wait_until(read, expected):
    async with asyncio.timeout(WAIT_SECONDS):
        while await read() != expected:
            await asyncio.sleep(0.05)


@pytest.fixture
async def thirty(worker_env, vhost, source, operator):
    await worker_env.worker.stop(0)
    await add_thirty_dead_letters(vhost, source.url)
    await operator.open("dead")
    await operator.sign_in()
    return operator


async def test_a_group_is_replayed_with_a_rate_and_its_progress_is_shown(thirty, vhost):
    page = thirty.page
    assert await page.locator("tbody tr").count() == 3
    await page.click("text=source_unavailable")
    await page.click("text=Add a note to this group")
    await page.fill("#note", "the proxy was down")
    await page.click("text=Save the note")
    await page.click("text=Replay all 10")
    assert await page.inner_text("h1") == "Replay 10 dead letters?"
    await page.fill("#rate", "20")
    await page.click("main button.main")
    await page.wait_for_selector("text=10 of 10")
    await page.wait_for_selector(".status.completed")
    assert await vhost.count() == 20
    assert len(await vhost.drain()) == 10
    await thirty.open("dead")
    assert await page.locator("tbody tr").count() == 2
    await thirty.open("history")
    replay, note = await page.locator("tbody tr").all_inner_texts()
    assert [cell.strip() for cell in replay.split("\t")][1:3] == ["Ada", "replay"]
    assert "10 of 10" in replay
    assert "done" in replay
    assert "source_unavailable" in note
    assert "Ada" in note


async def test_an_aborted_replay_keeps_the_remaining_dead_letters(thirty, vhost):
    page = thirty.page
    await thirty.open("dead/letters?code=corrupted&stage=download&host=127.0.0.1")
    await page.click("text=Replay all 10")
    await page.fill("#rate", "1")
    await page.click("main button.main")
    await thirty.until("(document.querySelector('progress') || {value: 0}).value >= 1")
    await page.click("text=Abort")
    await page.wait_for_selector("text=aborted by Ada")
    moved = await vhost.count("outlast.file_processing")
    assert 1 <= moved < 10
    assert await vhost.count() == 30 - moved


async def test_selected_dead_letters_are_discarded_and_restored(thirty, vhost):
    page, before = thirty.page, await vhost.order()
    await thirty.open("dead/letters?code=storage_rejected")
    for box in (await page.locator("input[name=ids]").all())[:2]:
        await box.check()
    assert await page.inner_text("[data-count]") == "2 selected"
    await page.click("text=Discard selected")
    await page.click("button.danger")
    await page.wait_for_selector("text=2 of 2")
    await wait_until(vhost.count, 28)
    await thirty.open("dead/archive")
    await page.check("[data-all]")
    await page.click("text=Restore selected")
    await page.wait_for_selector("text=2 restored")
    await page.wait_for_selector("text=The archive is empty")
    assert sorted(map(str, await vhost.order())) == sorted(map(str, before))


async def test_a_changed_count_must_be_confirmed_again(thirty, vhost, source):
    page = thirty.page
    await thirty.open("dead/confirm?verb=discard&code=corrupted")
    await vhost.dead_letter(vhost.job(f"{source.url}/new.png"), "corrupted", "new", minutes=99)
    await page.click("button.danger")
    assert "You confirmed 10 dead letters, but now 11 match" in await page.inner_text("[role=alert]")
    assert await vhost.count() == 31


async def test_two_operators_with_one_group_see_each_other_and_replay_each_dead_letter_once(thirty, chromium, vhost):
    async with another_operator(chromium, thirty.url) as grace:
        await grace.open("dead/confirm?verb=replay&code=corrupted")
        await grace.sign_in(who="Grace")
        assert await grace.page.inner_text("h1") == "Replay 10 dead letters?"
        await thirty.open("dead/confirm?verb=replay&code=corrupted")
        await thirty.page.fill("#rate", "4")
        await thirty.page.click("main button.main")
        await thirty.until("(document.querySelector('progress') || {value: 0}).value >= 1")
        watching = await grace.page.context.new_page()
        await watching.goto(f"{thirty.url}dead/letters?code=corrupted")
        assert "A replay by Ada is running" in await watching.inner_text("main")
        await grace.page.click("main button.main")  # none of the ten is left when her replay starts
        assert "You confirmed 10 dead letters, but now 0 match" in await grace.page.inner_text("[role=alert]")
        await thirty.page.wait_for_selector(".status.completed")
    assert len({message.message_id for message in await vhost.drain()}) == 10
    assert await vhost.count() == 20


async def test_the_failures_of_a_host_since_a_time_are_replayed_in_three_clicks(thirty, vhost):
    for code, minutes in (("source_unavailable", 50), ("source_unavailable", 70), ("corrupted", 75)):
        await vhost.dead_letter(vhost.job("https://other.example/a.png"), code, "503", minutes=minutes)
    await thirty.open()
    await thirty.page.click("nav >> text=Dead letters")
    await thirty.page.fill("main [name=since]", "2026-11-01T13:00Z")
    await thirty.page.press("main [name=since]", "Enter")
    await thirty.page.wait_for_selector("text=2 dead letters in 2 groups")
    await thirty.page.click("main >> text=Replay all 2…")
    assert await thirty.page.inner_text("h1") == "Replay 2 dead letters?"
    await thirty.page.click("main button.main")
    await thirty.page.wait_for_selector("text=2 of 2")
    assert await vhost.count() == 31
    assert (await thirty.open("dead?since=soon")).status == 422


async def test_a_locked_queue_is_reported(thirty, vhost, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.queue_lock.LOCK_WAIT_SECONDS", 0.3)
    await thirty.open("dead/confirm?verb=replay")
    async with vhost.dead_letters.open(), thirty.page.expect_navigation() as navigation:
        await thirty.page.click("main button.main")
    assert (await navigation.value).status == 409
    assert "Another operator is using the dead letters" in await thirty.page.inner_text("main")


async def test_the_last_list_is_shown_at_once_while_it_is_read_again(thirty, vhost, monkeypatch):
    monkeypatch.setattr("worker.console.dead_letters.cache.MAX_AGE_SECONDS", 0.0)
    async with vhost.dead_letters.open():  # so that the reading does not end
        answer = await thirty.open("dead/letters")
        text = await thirty.page.inner_text("main")
    assert (answer.status, "30 dead letters" in text, "s old" in text) == (200, True, False)


async def test_dead_letters_that_will_fail_again_are_marked_on_every_page(thirty, vhost, source):
    await vhost.dead_letter(vhost.job(f"{source.url}/gone.png"), "source_gone", "404")
    problems = {"corrupted": "it fails again", "source_gone": "without FAL_KEY no new link can be requested"}
    for path in ("dead", "dead/letters"):
        await thirty.open(path)
        for code, problem in problems.items():
            assert problem in await thirty.page.locator("tbody tr", has_text=code).first.inner_text()
        assert await thirty.page.locator("tbody tr", has_text="source_unavailable").locator(".warn").count() == 0
    await thirty.open("dead/letters?code=source_gone&stage=download")
    assert problems["source_gone"] in await thirty.page.inner_text(".banner")
    await thirty.open("dead/confirm?verb=replay")
    assert "10 of them: the source file is damaged" in await thirty.page.inner_text("main")


async def test_a_note_on_a_group_is_shown_to_others_and_can_be_removed(thirty, chromium):
    await thirty.page.click("text=storage_rejected")
    await thirty.page.click("text=Add a note to this group")
    await thirty.page.fill("#note", "the bucket is full, Grace is on it")
    await thirty.page.click("text=Save the note")
    async with another_operator(chromium, thirty.url) as reader:
        await reader.open("dead")
        await reader.sign_in(READ_TOKEN, "Bob")
        row = await reader.page.locator("tbody tr", has_text="storage_rejected").inner_text()
        assert "the bucket is full, Grace is on it" in row
        assert "Ada" in row
    await thirty.page.click("text=Edit the note")
    await thirty.page.fill("#note", "")
    await thirty.page.click("text=Save the note")
    assert await thirty.page.locator(".operator-note").count() == 0


async def test_dead_letters_are_filtered_and_the_url_of_the_filter_can_be_shared(thirty, chromium):
    await thirty.open("dead/letters")
    await thirty.page.click("summary")
    await thirty.page.fill("[name=code]", "corrupted")
    await thirty.page.fill("[name=since]", "2026-11-01T12:10Z")
    await thirty.page.click("main button.main")
    await thirty.page.wait_for_url("**/dead/letters?code=corrupted&since=*")
    rows = await thirty.page.locator("tbody tr").count()
    assert 0 < rows < 10
    async with another_operator(chromium, thirty.url) as other:
        await other.page.goto(thirty.page.url)
        await other.sign_in(who="Grace")
        assert other.page.url == thirty.page.url
        assert await other.page.locator("tbody tr").count() == rows
    await thirty.page.click(f"text=Discard all {rows}…")
    assert await thirty.page.inner_text("h1") == f"Discard {rows} dead letters?"
