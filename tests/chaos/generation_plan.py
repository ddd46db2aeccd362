"""The generations of a run, drawn from a seed, with the expected result of each of their files."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

PICTURES = ("photo.png", "photo.jpg", "photo.webp", "cut-out.png", "animation.gif", "turned.jpg")
OTHERS = {"video": ("clip.mp4",), "audio": ("tone.mp3", "tone.wav"), "model_mesh": ("cube.glb",)}
VARIANTS = 400
AGAIN = 0.25
# A file's URL after `<source>/files/`, and its expected error code.
BAD = (
    ("photo.jpg?status=404", "source_gone"),
    ("photo.png?truncate=1000", "source_unavailable"),
    ("cut.jpg?bad=1", "corrupted"),
    ("page.png?bad=1", "type_not_supported"),
    ("https://media.example.org/stolen.png?bad=1", "source_forbidden"),
    ("empty.png?bad=1", "corrupted"),
    ("tone.mp3?status=410", "source_gone"),
    ("cut.png?bad=1", "corrupted"),
    ("program.jpg?bad=1", "type_not_supported"),
    ("photo.webp?status=503", "source_unavailable"),
)
PASSING_FAULTS = (
    "first=503&times=2",
    "first=429&times=1",
    "first=truncate&times=1",
    "first=reset&times=2",
    "slow=200000",
)


@dataclass(frozen=True)
class File:
    """A file of an output: the name of its sample, or its expected error code."""

    url: str
    sample: str
    code: str = ""


@dataclass(frozen=True)
class Generation:
    """A row to insert. `files` are in the order of their fields in the output."""

    id: str
    user_id: str
    output: dict[str, Any]
    files: tuple[File, ...] = field(repr=False)

    @property
    def good(self) -> list[int]:
        """Positions of the files that must be stored."""
        return [at for at, file in enumerate(self.files) if not file.code]

    def row(self) -> dict[str, Any]:
        """Return the row as an app inserts it."""
        return {"id": self.id, "user_id": self.user_id, "status": "completed", "output": self.output}


def draw_generations(
    seed: int, count: int, source_url: str, *, bad: float = 0.05, passing: float = 0.1
) -> list[Generation]:
    """Draw `count` generations of 1 to 3 files; exactly the share `bad` of all files is bad, each kind in turn.

    Of the good pictures, the share AGAIN has the URL of an earlier one of the same user.
    """
    rng = random.Random(seed)  # noqa: S311 - reproducible, not for security
    users = [str(UUID(int=rng.getrandbits(128), version=4)) for _ in range(min(50, max(3, count // 5)))]
    sizes = [rng.choice((1, 1, 2, 2, 3)) for _ in range(count)]
    # Bad files that fail only after all attempts must not come at the very end.
    bad_positions = sorted(rng.sample(range(sum(sizes) * 4 // 5), round(bad * sum(sizes))))
    kinds = {position: BAD[at % len(BAD)] for at, position in enumerate(bad_positions)}
    pictures: defaultdict[str, list[File]] = defaultdict(list)
    generations, at = [], 0
    for size in sizes:
        numbered = [(number, kinds.get(number)) for number in range(at, at + size)]
        user = rng.choice(users)
        generation = _generation(rng, user, numbered, source_url, passing, pictures[user])
        pictures[user] += [file for file in generation.files if file.sample in PICTURES and not file.code]
        generations.append(generation)
        at += size
    return generations


def _generation(
    rng: random.Random,
    user: str,
    numbered: Sequence[tuple[int, tuple[str, str] | None]],
    source: str,
    passing: float,
    earlier: Sequence[File],
) -> Generation:
    output: dict[str, Any] = {"seed": rng.getrandbits(30), "prompt": "a lighthouse in a storm"}
    files: dict[str, list[File]] = {}
    for number, bad in numbered:
        free = [name for name in OTHERS if name not in output]
        field_name = "images" if bad or rng.random() < 0.65 else rng.choice(free)
        unused = [file for file in earlier if file not in files.get(field_name, ())] if field_name == "images" else []
        if bad:
            file = _bad(number, bad, source)
        elif unused and rng.random() < AGAIN:
            file = rng.choice(unused)
        else:
            file = _good(rng, number, field_name, source, passing)
        files.setdefault(field_name, []).append(file)
        entry = {"url": file.url, "content_type": "application/octet-stream", "file_name": file.sample}
        if field_name == "images":
            output.setdefault(field_name, []).append({**entry, "width": None, "height": None})
        else:
            output[field_name] = entry
    in_order = [file for field_name in sorted(files) for file in files[field_name]]
    return Generation(str(UUID(int=rng.getrandbits(128), version=4)), user, output, tuple(in_order))


def _bad(number: int, bad: tuple[str, str], source: str) -> File:
    rest, code = bad
    url = rest if "://" in rest else f"{source}/files/{rest}"
    return File(f"{url}&f={number}", rest.partition("?")[0].rpartition("/")[2], code)


def _good(rng: random.Random, number: int, field_name: str, source: str, passing: float) -> File:
    sample = rng.choice(PICTURES if field_name == "images" else OTHERS[field_name])
    options = [rng.choice(PASSING_FAULTS)] if rng.random() < passing else []
    if sample == "tone.wav" and rng.random() < 0.8:
        sample = f"tone.wav?variant={rng.randrange(VARIANTS)}"
        options = [option for option in options if "slow" not in option]
    query = "&".join([*options, f"f={number}"])
    return File(f"{source}/files/{sample}{'&' if '?' in sample else '?'}{query}", sample)
