"""Pictures as Chromium shows them: pixels in sRGB, and the time of each frame."""

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from playwright.async_api import Page, Route

ADDRESS = "https://pictures.test/"
"""An address that the page intercepts: nothing is requested. Browsers decode frames for secure addresses only."""
SCRIPT = """
const base64 = blob => new Promise(done => {
  const reader = new FileReader(); reader.onload = () => done(reader.result.split(',')[1]); reader.readAsDataURL(blob)
})
const shown = async (picture, width, height) => {
  const context = new OffscreenCanvas(width, height).getContext('2d', {colorSpace: 'srgb', willReadFrequently: true})
  context.drawImage(picture, 0, 0)
  return {width, height, pixels: await base64(new Blob([context.getImageData(0, 0, width, height).data]))}
}
const still = async (blob) => {
  const image = new Image()
  image.src = URL.createObjectURL(blob)
  await image.decode()
  return {frames: [{...await shown(image, image.naturalWidth, image.naturalHeight), milliseconds: 100}], plays: 1}
}
const animation = async (blob, type) => {
  const decoder = new ImageDecoder({data: await blob.arrayBuffer(), type, preferAnimation: true})
  await decoder.completed
  await decoder.tracks.ready
  const track = decoder.tracks.selectedTrack, frames = []
  for (let at = 0; at < track.frameCount; at++) {
    const {image} = await decoder.decode({frameIndex: at})
    frames.push({...await shown(image, image.displayWidth, image.displayHeight), milliseconds: image.duration / 1000})
    image.close()
  }
  return {frames, plays: track.repetitionCount + 1}
}
window.rendered = async (name, type, animated) => {
  const blob = new Blob([await (await fetch(name)).arrayBuffer()], {type})
  return animated ? animation(blob, type) : still(blob)
}
"""


@dataclass(frozen=True)
class Rendering:
    """Frames (RGBA, 8 bits), the milliseconds of each, and how often they are played (infinity: for ever)."""

    frames: list[np.ndarray]
    milliseconds: list[float]
    plays: float


class Chromium:
    """An open page that renders files."""

    def __init__(self, page: "Page") -> None:
        self._page, self._content = page, b""

    async def open(self) -> None:
        """Open the page."""
        await self._page.route(ADDRESS + "**", self._answer)
        await self._page.goto(ADDRESS)
        await self._page.add_script_tag(content=SCRIPT)

    async def render(self, content: bytes, content_type: str, *, animated: bool = False) -> Rendering:
        """Return the picture as it is shown; `animated`: all frames of an animation."""
        self._content = content
        found = await self._page.evaluate(
            "([type, animated]) => rendered('picture', type, animated)", [content_type, animated]
        )
        frames = [
            np.frombuffer(base64.b64decode(each["pixels"]), np.uint8).reshape(each["height"], each["width"], 4)
            for each in found["frames"]
        ]
        return Rendering(frames, [_shown(each["milliseconds"]) for each in found["frames"]], float(found["plays"]))

    async def _answer(self, route: "Route") -> None:
        is_page = route.request.url == ADDRESS
        await route.fulfill(
            body="<!doctype html><title>pictures</title>" if is_page else self._content,
            content_type="text/html" if is_page else "application/octet-stream",
        )


def _shown(milliseconds: float) -> float:
    """Return how long the browser shows a frame: those of 10 ms and less are shown for 100 ms, in all formats."""
    return 100 if milliseconds <= 10 else milliseconds
