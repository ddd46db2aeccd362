"""The previews of stored files: the smallest variants that are sharp enough, of a video those of its poster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from handlers.database.console_queries import ConsoleQueries, Row
from schemas.variants import MAX_VARIANTS

SIDE: Final = 120
"""Side of a preview in CSS pixels, as in console.css. Pictures are scaled to fit."""
DENSITIES: Final = (1, 2)
"""Pixels of the screen for one CSS pixel."""


@dataclass(frozen=True, slots=True)
class Preview:
    """The attributes of an <img>: URLs of the picture, and of sharper ones in `srcset`."""

    src: str
    srcset: str


async def links_and_previews(
    records: ConsoleQueries, files: Sequence[Row]
) -> tuple[dict[str, str], dict[str, Preview]]:
    """Return the signed URLs of stored files, and their previews, by file id. Missing objects are left out."""
    wanted = {file["id"]: _sharp_enough(file) for file in files}
    variants = [
        {"id": f"{file['id']}/{at}", "bucket": file["bucket"], "path": path}
        for file in files
        for at, path in enumerate(wanted[file["id"]])
    ]
    links = await records.links([*files, *variants]) if files else {}
    previews = {}
    for file_id, paths in wanted.items():
        urls = [link for at in range(len(paths)) if (link := links.get(f"{file_id}/{at}"))]
        if urls:
            densities = zip(urls, DENSITIES, strict=False)
            srcset = ", ".join(f"{url} {density}x" for url, density in densities) if len(urls) > 1 else ""
            previews[file_id] = Preview(urls[0], srcset)
    return links, previews


def _sharp_enough(file: Row) -> list[str]:
    """Return the path of a picture for each density, the smallest that is large enough, or else the largest."""
    pictures = sorted((max(_size(each)), each["path"]) for each in _pictures(file))
    chosen: list[str] = []
    for density in DENSITIES:
        path = next((path for side, path in pictures if side >= SIDE * density), pictures[-1][1] if pictures else None)
        if path is not None and path not in chosen:
            chosen.append(path)
    return chosen


def _pictures(file: Row) -> list[Row]:
    """Return the variants that have the shape of the file, and the file itself if it is a picture."""
    width, height = _size(file)
    variants = file.get("variants")
    found = [each for each in variants[:MAX_VARIANTS] if isinstance(each, dict)] if isinstance(variants, list) else []
    shown = [
        each
        for each in found
        if isinstance(each.get("path"), str)
        and abs(_size(each)[0] * height - _size(each)[1] * width) <= max(width, height)
    ]
    return [*shown, file] if str(file.get("content_type")).startswith("image/") else shown


def _size(entry: Row) -> tuple[int, int]:
    """Return width and height; zero if they are not known."""
    width, height = entry.get("width"), entry.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) else (0, 0)
