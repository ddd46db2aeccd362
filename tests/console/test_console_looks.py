"""Every page as it is seen: pictures of it for people, axe-core for the rest, with JavaScript and without."""

from axe_playwright_python.base import AXE_FILE_PATH

from tests.console.conftest import somebody_else
from tests.console.scene import Scene

WIDE, PHONE = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
SCHEMES = ("light", "dark")
FAULTS = """async () => (await axe.run({resultTypes: ["violations"]})).violations
  .filter(one => ["serious", "critical"].includes(one.impact))
  .map(one => `${one.id}: ${one.nodes.map(node => node.html.slice(0, 200)).join(" | ")}`)"""
WIDER = """[document.documentElement, ...document.querySelectorAll(".flow")].some(
  (one) => one.scrollWidth > document.documentElement.clientWidth)"""
SAID = {
    "": ('navigation "Pages"', 'heading "Now"', 'img "tasks ended, minute by minute', 'region "Workers"'),
    "dead": ('link "source_gone"', 'button "Replay the 15 of source_gone"', 'img "15 failures, between'),
    "dead/letters": ('search "Letters"', 'checkbox "Select the letter of task', 'columnheader "Failed"'),
    "dead/confirm?verb=discard": ('textbox "At most so many a second', 'button "Discard 61"'),
}


def pages(scene):
    """Every page there is, by the name of its picture."""
    return {
        "now": "",
        "tasks": "tasks",
        "task-completed": f"tasks/{scene.whole.task_id}",
        "task-failed": f"tasks/{scene.broken.task_id}",
        "task-running": f"tasks/{scene.slow.task_id}",
        "generation": f"generations/{scene.whole.generation_id}",
        "dead": "dead",
        "letters": "dead/letters?code=source_unavailable&stage=download&host=v3.fal.media",
        "letters-all": "dead/letters",
        "confirm": "dead/confirm?verb=replay&stage=download",
        "archive": "dead/archive",
        "history": "history",
        "operation": f"history/{scene.operation}",
        "error": "tasks/none",
    }


async def faults(page):
    await page.evaluate(AXE_FILE_PATH.read_text())
    return await page.evaluate(FAULTS)


async def look(operator, name, found):
    """Take four pictures of a page; note what axe-core finds in each light, and what does not fit a phone."""
    page = operator.page
    for width, size in (("wide", WIDE), ("phone", PHONE)):
        await page.set_viewport_size(size)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            await operator.shoot(f"{name}-{width}-{scheme}")
            if width == "wide" or scheme == "dark":
                found += [f"{name}, {width}, {scheme}: {fault}" for fault in await faults(page)]
        if await page.evaluate(WIDER):
            found.append(f"{name} is wider than a {width} screen")


async def without_a_script(operator, paths, found):
    """Load each page with JavaScript off, and have axe-core look at what came."""
    await operator.open()
    await operator.sign_in()
    session = await operator.page.context.new_cdp_session(operator.page)
    for name, path in paths.items():
        await session.send("Emulation.setScriptExecutionDisabled", {"value": True})
        await operator.open(path)
        assert "UTC" in (await operator.page.locator("time").all_inner_texts() or ["UTC"])[0], "ours did not run"
        await session.send("Emulation.setScriptExecutionDisabled", {"value": False})
        found += [f"{name}, without JavaScript: {fault}" for fault in await faults(operator.page)]


async def test_no_page_has_a_serious_fault_in_light_or_dark_or_without_javascript(
    operator, chromium, console, bench, yard, source
):
    scene, found = await Scene(bench, yard, source).set(), []
    await operator.open()
    await look(operator, "sign-in", found)
    await operator.sign_in()
    for name, path in pages(scene).items():
        await operator.open(path)
        await look(operator, name, found)
    await operator.page.set_viewport_size(WIDE)
    for path, told in SAID.items():
        await operator.open(path)
        tree = await operator.page.locator("body").aria_snapshot()
        found += [f"{one} is not said on /{path}" for one in told if one not in tree]
    async with somebody_else(chromium, console, java_script_enabled=False, color_scheme="dark") as other:
        await without_a_script(other, pages(scene), found)
    assert found == []


async def test_axe_would_find_a_fault(operator):
    await operator.open()
    await operator.page.evaluate("document.querySelector('label[for=token]').remove()")
    [fault] = await faults(operator.page)
    assert fault.startswith("label: ")
