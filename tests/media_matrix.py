"""The table of all media types in the manual, made from the registry, with what other programs do with them.

    python -m tests.media_matrix deploy/docs/media.md

What sharp and imgproxy do is from their documentation (https://sharp.pixelplumbing.com, prebuilt binaries, and
https://docs.imgproxy.net/image_formats_support). What Pillow does is asked of the installed one.
"""

import ast
import re
import sys
from pathlib import Path
from typing import Final

from PIL import Image

from handlers.media import MEDIA_TYPES, Kind, MediaType
from handlers.media.av.video import WITHOUT_VIDEO
from handlers.media.image.encode import SHOWN_BY_BROWSERS
from handlers.media.still.pillow_decoder import DECODERS

START: Final = "<!-- types: made by `python -m tests.media_matrix` -->\n"
END: Final = "<!-- end of types -->\n"
SHARP: Final = {"jpg", "png", "webp", "gif", "avif", "tiff", "svg"}
IMGPROXY: Final = {*SHARP, "heic", "bmp", "ico"}
IMGPROXY_PRO: Final = "Pro: thumbnail"
PILLOW_PLUGINS: Final = {"heic": "with a plugin"}
FOLDER: Final = Path(__file__).parents[1] / "handlers/media"
CITATION: Final = re.compile(r" \((https?:|RFC|ISO|PNG|GIF|ITU|glTF|TIFF)[^)]*\)")
SECOND_DECODER: Final = {"image/gif": "libvips, Pillow", "image/avif": "libvips, libavif", "image/heic": "libheif"}


def table() -> str:
    """Return the Markdown table."""
    head = [
        "type",
        "detected by",
        "checked by",
        "decoded by",
        "stored as",
        "kept as it is",
        "sharp",
        "imgproxy",
        "Pillow",
    ]
    rows = [_row(media) for media in MEDIA_TYPES]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)) + "\n"


def with_new_table(text: str) -> str:
    """Return the text of a page with the table between START and END replaced by the current one."""
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    return before + START + "\n" + table() + "\n" + END + after


def _row(media: MediaType) -> list[str]:
    stored, kept = _stored(media)
    return [
        f"`{media.content_type}` ({media.extension})",
        _detection(media),
        _structure(media),
        _decoder(media),
        stored,
        kept,
        "converts" if media.extension in SHARP else "-",
        _imgproxy(media),
        _pillow(media),
    ]


def _detection(media: MediaType) -> str:
    for video, audio in WITHOUT_VIDEO.items():
        if audio == media.content_type:
            return f"as `{video}`; no video"
    return "first bytes" if media.magic else "first 4 KiB"


def _structure(media: MediaType) -> str:
    """Return what the module that checks the structure says about it in its first line."""
    path = FOLDER / str(media.structure).replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    line = CITATION.sub("", (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0])
    return (line.partition(": ")[2] or line).rstrip(".")


def _imgproxy(media: MediaType) -> str:
    if media.kind is Kind.VIDEO or media.extension == "psd":
        return IMGPROXY_PRO
    return "converts" if media.extension in IMGPROXY else "-"


def _pillow(media: MediaType) -> str:
    name = Image.registered_extensions().get(f".{media.extension}")
    if name not in Image.OPEN:
        return PILLOW_PLUGINS.get(media.extension, "-")
    return "converts" if name in Image.SAVE else "reads"


def _decoder(media: MediaType) -> str:
    if media.content_type in SECOND_DECODER:
        return SECOND_DECODER[media.content_type]
    if media.content_type in DECODERS:
        return "Pillow"
    if media.reader is None:
        return "-"
    return "libvips" if media.kind is Kind.IMAGE else "FFmpeg"


def _stored(media: MediaType) -> tuple[str, str]:
    """Return the formats in which a type is stored, and when a file is kept."""
    if media.content_type == "image/svg+xml":
        return "SVG without scripts", "never"
    if media.kind is not Kind.IMAGE or media.prepared_by:
        return media.extension.upper(), "always"
    kept = "if encoding saves under 5%" if media.content_type in SHOWN_BY_BROWSERS else "if encoding saves nothing"
    return "JPEG, WebP, AVIF", kept


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_new_table(page.read_text()))
