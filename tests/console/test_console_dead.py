"""Thirty dead letters of three causes, met as an operator meets them."""

import asyncio

import pytest


async def bury_thirty(yard, url):
    for number in range(30):
        code = ("source_unavailable", "corrupted", "storage_rejected")[number % 3]
        job = yard.job(f"{url}/{number}.png")
        await yard.bury(job, code, f"{code} number {number}", "download", minutes=number)


async def until(look, wanted):
    async with asyncio.timeout(20):
        while await look() != wanted:
            await asyncio.sleep(0.05)


@pytest.fixture
async def thirty(bench, yard, source, operator):
    await bench.crew.stop(0)
    await bury_thirty(yard, source.url)
    await operator.open("dead")
    await operator.sign_in()
    return operator


async def test_a_group_is_found_replayed_with_a_rate_and_seen_to_drain(thirty, yard):
    page = thirty.page
    assert await page.locator("tbody tr").count() == 3
    await thirty.shoot("dead-groups")
    await page.click("text=source_unavailable")
    await page.click("text=Write a note on this group")
    await page.fill("#note", "the proxy was down")
    await page.click("text=Keep the note")
    await thirty.shoot("dead-letters")
    await page.click("text=Replay all 10")
    assert await page.inner_text("h1") == "Replay 10 letters?"
    await thirty.shoot("dead-confirm")
    await page.fill("#rate", "20")
    await page.click("main button.main")
    await page.wait_for_selector("text=10 of 10")
    await page.wait_for_selector(".status.completed")
    await thirty.shoot("operation")
    assert await yard.count() == 20
    assert len(await yard.drain()) == 10
    await thirty.open("dead")
    assert await page.locator("tbody tr").count() == 2
    await thirty.open("history")
    assert await page.locator("tbody tr").first.inner_text() != ""
    assert "Ada" in await page.inner_text("tbody")
    await thirty.shoot("history")


async def test_a_replay_is_aborted_half_way_and_the_rest_stays(thirty, yard):
    page = thirty.page
    await thirty.open("dead/letters?code=corrupted&stage=download&host=127.0.0.1")
    await page.click("text=Replay all 10")
    await page.fill("#rate", "2")
    await page.click("main button.main")
    await thirty.until("(document.querySelector('progress') || {value: 0}).value >= 2")
    await page.click("text=Abort")
    await page.wait_for_selector("text=aborted by Ada")
    moved = await yard.count("outlast.file_processing")
    assert 2 <= moved < 10
    assert await yard.count() == 30 - moved


async def test_selected_letters_are_discarded_and_restored(thirty, yard):
    page, before = thirty.page, await yard.order()
    await thirty.open("dead/letters?code=storage_rejected")
    for box in (await page.locator("input[name=ids]").all())[:2]:
        await box.check()
    assert await page.inner_text("[data-count]") == "2 selected"
    await page.click("text=Discard selected")
    await page.click("button.danger")
    await page.wait_for_selector("text=2 of 2")
    await until(yard.count, 28)
    await thirty.open("dead/archive")
    await page.check("[data-all]")
    await thirty.shoot("archive")
    await page.click("text=Restore selected")
    await page.wait_for_selector("text=2 restored")
    await page.wait_for_selector("text=The archive is empty")
    assert sorted(map(str, await yard.order())) == sorted(map(str, before))


async def test_a_count_that_changed_meanwhile_is_shown_again_before_anything_is_touched(thirty, yard, source):
    page = thirty.page
    await thirty.open("dead/confirm?verb=discard&code=corrupted")
    await yard.bury(yard.job(f"{source.url}/new.png"), "corrupted", "new", minutes=99)
    await page.click("button.danger")
    assert "10 letters, and it is 11 now" in await page.inner_text("[role=alert]")
    assert await yard.count() == 31


async def test_who_holds_the_queue_is_said(thirty, yard, monkeypatch):
    monkeypatch.setattr("worker.dead.lock.PATIENCE_SECONDS", 0.3)
    async with yard.letters.open():
        answer = await thirty.open("dead/confirm?verb=replay")
    assert answer.status == 409
    assert "Somebody else is at the dead letters" in await thirty.page.inner_text("main")


async def test_what_cannot_succeed_is_marked(thirty):
    row = thirty.page.locator("tbody tr", has_text="corrupted")
    assert "it fails again" in await row.inner_text()
