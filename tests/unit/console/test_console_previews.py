"""Which variants are the preview of a stored file."""

from collections.abc import Iterable
from typing import Any

import pytest

from worker.console.generation.previews import Preview, links_and_previews


class Records:
    """Signs every path but those of objects that Storage does not have."""

    async def links(self, files: Iterable[dict[str, Any]]) -> dict[str, str]:
        return {file["id"]: f"/{file['path']}" for file in files if file["path"] != "missing"}


def variant(path: str, width: Any, height: Any = 90) -> dict[str, Any]:
    return {"path": path, "width": width, "height": height}


PICTURE = {"content_type": "image/jpeg", "width": 1600, "height": 900}
VIDEO = PICTURE | {"content_type": "video/mp4"}
SMALL, LARGE, HUGE = variant("small", 160), variant("large", 320, 180), variant("huge", 1280, 720)


@pytest.mark.parametrize(
    ("file", "preview"),
    [
        (PICTURE, Preview("/file", "")),
        (PICTURE | {"variants": [HUGE, LARGE, SMALL]}, Preview("/small", "/small 1x, /large 2x")),
        (PICTURE | {"variants": [SMALL]}, Preview("/small", "/small 1x, /file 2x")),
        (PICTURE | {"variants": [variant("tiny", 64, 36)]}, Preview("/file", "")),
        (PICTURE | {"variants": [variant("missing", 160)]}, Preview("/file", "")),
        (PICTURE | {"variants": [variant("square", 200, 200)]}, Preview("/file", "")),
        (PICTURE | {"variants": ["x", {}, {"path": 7}, variant("odd", "1"), None]}, Preview("/file", "")),
        (PICTURE | {"variants": {"path": "small"}}, Preview("/file", "")),
        (VIDEO, None),
        (VIDEO | {"variants": [variant("tiny", 64, 36)]}, Preview("/tiny", "")),
        (VIDEO | {"variants": [SMALL, HUGE]}, Preview("/small", "/small 1x, /huge 2x")),
        ({"content_type": "audio/mpeg", "variants": [variant("wave", 1024, 256)]}, Preview("/wave", "")),
        ({"content_type": None}, None),
    ],
)
async def test_the_smallest_sharp_variants_are_shown(file: dict[str, Any], preview: Preview | None) -> None:
    stored = {"id": "1", "bucket": "b", "path": "file"} | file
    links, previews = await links_and_previews(Records(), [stored])  # type: ignore[arg-type]
    assert links["1"] == "/file"
    assert previews == ({} if preview is None else {"1": preview})


async def test_no_file_needs_no_link() -> None:
    assert await links_and_previews(Records(), []) == ({}, {})  # type: ignore[arg-type]
