"""Compare stored content with its source: pictures by frame size and number, other files by their bytes."""

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

import pyvips

from tests.chaos.faulty_source import variant
from tests.chaos.generation_plan import PICTURES


@dataclass(frozen=True)
class Fingerprint:
    """Of a picture the frame size and number of frames as displayed; of any content its SHA-256."""

    sha256: str
    picture: tuple[int, int, int] | None = None

    def matches(self, stored: "Fingerprint") -> bool:
        """Whether `stored` is the expected result for this source file."""
        return self.picture == stored.picture if self.picture else self.sha256 == stored.sha256


def fingerprint(content: bytes) -> Fingerprint:
    """Return the fingerprint of stored content; a picture is decoded completely."""
    sha256 = hashlib.sha256(content).hexdigest()
    try:
        image = pyvips.Image.new_from_buffer(content, "", fail_on="warning")
    except pyvips.Error:
        return Fingerprint(sha256)
    pages = image.get("n-pages") if image.get_typeof("n-pages") else 1
    if pages > 1:
        image = pyvips.Image.new_from_buffer(content, "", n=-1, fail_on="warning")
    image = image.autorot().copy_memory()
    return Fingerprint(sha256, (image.width, image.get_page_height(), pages))


@cache
def sample_fingerprint(folder: Path, sample: str) -> Fingerprint:
    """Return the fingerprint of a sample, whose name may end in `?variant=n`."""
    name, _, query = sample.partition("?")
    path = folder / name
    content = variant(path, int(parse_qs(query)["variant"][0])) if query else path.read_bytes()
    return fingerprint(content) if name in PICTURES else Fingerprint(hashlib.sha256(content).hexdigest())
