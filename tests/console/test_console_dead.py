"""Thirty dead letters of three causes, met as an operator meets them."""

import asyncio

import pytest

from tests.console.conftest import READ_TOKEN, somebody_else
from tests.patience import SOON


async def bury_thirty(yard, url):
    for number in range(30):
        code = ("source_unavailable", "corrupted", "storage_rejected")[number % 3]
        job = yard.job(f"{url}/{number}.png")
        await yard.bury(job, code, f"{code} number {number}", "download", minutes=number)


async def until(look, wanted):
    async with asyncio.timeout(SOON):
        while await look() != wanted:
            await asyncio.sleep(0.05)


@pytest.fixture
async def thirty(bench, yard, source, operator):
    await bench.worker.stop(0)
    await bury_thirty(yard, source.url)
    await operator.open("dead")
    await operator.sign_in()
    return operator


async def test_a_group_is_found_replayed_with_a_rate_and_seen_to_drain(thirty, yard):
    page = thirty.page
    assert await page.locator("tbody tr").count() == 3
    await page.click("text=source_unavailable")
    await page.click("text=Write a note on this group")
    await page.fill("#note", "the proxy was down")
    await page.click("text=Keep the note")
    await page.click("text=Replay all 10")
    assert await page.inner_text("h1") == "Replay 10 letters?"
    await page.fill("#rate", "20")
    await page.click("main button.main")
    await page.wait_for_selector("text=10 of 10")
    await page.wait_for_selector(".status.completed")
    assert await yard.count() == 20
    assert len(await yard.drain()) == 10
    await thirty.open("dead")
    assert await page.locator("tbody tr").count() == 2
    await thirty.open("history")
    replay, note = await page.locator("tbody tr").all_inner_texts()
    assert [told.strip() for told in replay.split("\t")][1:3] == ["Ada", "replay"]
    assert "10 of 10" in replay
    assert "done" in replay
    assert "source_unavailable" in note
    assert "Ada" in note


async def test_a_replay_is_aborted_half_way_and_the_rest_stays(thirty, yard):
    page = thirty.page
    await thirty.open("dead/letters?code=corrupted&stage=download&host=127.0.0.1")
    await page.click("text=Replay all 10")
    await page.fill("#rate", "1")
    await page.click("main button.main")
    await thirty.until("(document.querySelector('progress') || {value: 0}).value >= 1")
    await page.click("text=Abort")
    await page.wait_for_selector("text=aborted by Ada")
    moved = await yard.count("outlast.file_processing")
    assert 1 <= moved < 10
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
    await page.click("text=Restore selected")
    await page.wait_for_selector("text=2 restored")
    await page.wait_for_selector("text=The archive is empty")
    assert sorted(map(str, await yard.order())) == sorted(map(str, before))


async def test_a_count_that_changed_meanwhile_is_shown_again_before_anything_is_touched(thirty, yard, source):
    page = thirty.page
    await thirty.open("dead/confirm?verb=discard&code=corrupted")
    await yard.bury(yard.job(f"{source.url}/new.png"), "corrupted", "new", minutes=99)
    await page.click("button.danger")
    assert "You confirmed 10 letters, and now it is 11" in await page.inner_text("[role=alert]")
    assert await yard.count() == 31


async def test_two_operators_at_one_group_are_told_of_each_other_and_each_letter_moves_once(thirty, chromium, yard):
    async with somebody_else(chromium, thirty.url) as grace:
        await grace.open("dead/confirm?verb=replay&code=corrupted")
        await grace.sign_in(who="Grace")
        assert await grace.page.inner_text("h1") == "Replay 10 letters?"
        await thirty.open("dead/confirm?verb=replay&code=corrupted")
        await thirty.page.fill("#rate", "4")
        await thirty.page.click("main button.main")
        await thirty.until("(document.querySelector('progress') || {value: 0}).value >= 1")
        watching = await grace.page.context.new_page()
        await watching.goto(f"{thirty.url}dead/letters?code=corrupted")
        assert "A replay by Ada is running" in await watching.inner_text("main")
        await grace.page.click("main button.main")  # of the ten she saw, none is left when it is her turn
        assert "You confirmed 10 letters, and now it is 0" in await grace.page.inner_text("[role=alert]")
        await thirty.page.wait_for_selector(".status.completed")
    assert len({message.message_id for message in await yard.drain()}) == 10
    assert await yard.count() == 20


async def test_who_holds_the_queue_is_said(thirty, yard, monkeypatch):
    monkeypatch.setattr("worker.dead_letters.queue_lock.PATIENCE_SECONDS", 0.3)
    async with yard.letters.open():
        answer = await thirty.open("dead/confirm?verb=replay")
    assert answer.status == 409
    assert "Somebody else is at the dead letters" in await thirty.page.inner_text("main")


async def test_what_cannot_succeed_is_marked_wherever_it_is_seen(thirty, yard, source):
    await yard.bury(yard.job(f"{source.url}/gone.png"), "source_gone", "404")
    marks = {"corrupted": "it fails again", "source_gone": "without FAL_KEY nobody can be asked for it again"}
    for path in ("dead", "dead/letters"):
        await thirty.open(path)
        for code, mark in marks.items():
            assert mark in await thirty.page.locator("tbody tr", has_text=code).first.inner_text()
        assert await thirty.page.locator("tbody tr", has_text="source_unavailable").locator(".warn").count() == 0
    await thirty.open("dead/letters?code=source_gone&stage=download")
    assert marks["source_gone"] in await thirty.page.inner_text(".banner")
    await thirty.open("dead/confirm?verb=replay")
    assert "10 will hardly succeed" in await thirty.page.inner_text("main")


async def test_a_note_on_a_group_is_seen_by_others_and_can_be_taken_away(thirty, chromium):
    await thirty.page.click("text=storage_rejected")
    await thirty.page.click("text=Write a note on this group")
    await thirty.page.fill("#note", "the bucket is full, Grace is on it")
    await thirty.page.click("text=Keep the note")
    async with somebody_else(chromium, thirty.url) as reader:
        await reader.open("dead")
        await reader.sign_in(READ_TOKEN, "Bob")
        noted = await reader.page.locator("tbody tr", has_text="storage_rejected").inner_text()
        assert "the bucket is full, Grace is on it" in noted
        assert "Ada" in noted
    await thirty.page.click("text=Change the note")
    await thirty.page.fill("#note", "")
    await thirty.page.click("text=Keep the note")
    assert await thirty.page.locator(".noted").count() == 0


async def test_letters_are_chosen_by_a_filter_and_its_address_can_be_shared(thirty, chromium):
    await thirty.open("dead/letters")
    await thirty.page.fill("[name=code]", "corrupted")
    await thirty.page.fill("[name=since]", "2026-11-01T12:10Z")
    await thirty.page.click("text=Find")
    await thirty.page.wait_for_url("**/dead/letters?code=corrupted&since=*")
    rows = await thirty.page.locator("tbody tr").count()
    assert 0 < rows < 10
    async with somebody_else(chromium, thirty.url) as other:
        await other.page.goto(thirty.page.url)
        await other.sign_in(who="Grace")
        assert other.page.url == thirty.page.url
        assert await other.page.locator("tbody tr").count() == rows
    await thirty.page.click(f"text=Discard all {rows}…")
    assert await thirty.page.inner_text("h1") == f"Discard {rows} letters?"
