"""A small run that ended well, as the auditor sees it: what `test_auditor` then spoils."""

import copy
from uuid import uuid4

from tests.chaos.judge import Letter, Observed
from tests.chaos.looks import Look
from tests.chaos.plan import File, Generation

PICTURE = Look("a" * 64, (8, 6, 1))
STORED = Look("b" * 64, (8, 6, 1))  # the same picture, compressed
SOUND = Look("c" * 64)
USER = "user"


def place(look: Look) -> str:
    """Where an object with this content lies."""
    return f"generations/{USER}/{look.sha256[:2]}/{look.sha256}.x"


def generation(name, *files):
    return Generation(name, USER, {}, files)


def record(name, position, look):
    """A row of outlast_files."""
    return {
        "id": uuid4(),
        "generation_id": name,
        "user_id": USER,
        "position": position,
        "bucket": "generations",
        "path": place(look).partition("/")[2],
        "content_type": "x/y",
        "width": look.picture[0] if look.picture else None,
        "height": look.picture[1] if look.picture else None,
        "sha256": look.sha256,
        "file_size": 9,
        "source_sha256": look.sha256,
        "profile": "p",
    }


def task(name, status, failed=()):
    return {
        "task_id": f"task of {name}",
        "generation_id": name,
        "status": status,
        "attempt": 1,
        "failed": [{"position": position, "code": code} for position, code in failed],
        "error_code": None,
    }


def good_end() -> Observed:
    """One generation stored whole, one in part, both with the same picture, and one dead."""
    gone = File("http://s/gone.png", "gone.png", "source_gone")
    picture, sound = File("http://s/p.png", "p.png"), File("http://s/t.mp3", "t.mp3")
    files = [record("one", 0, STORED), record("one", 1, SOUND), record("two", 0, STORED)]
    rows = {
        "one": {"media_status": "completed", "media": [copy.copy(file) for file in files[:2]]},
        "two": {"media_status": "partial", "media": [copy.copy(files[2])]},
        "three": {"media_status": "failed", "media": []},
    }
    places = {look: place(look) for look in (STORED, SOUND)}
    return Observed(
        generations=[generation("one", picture, sound), generation("two", picture, gone), generation("three", gone)],
        rows=rows,
        tasks=[
            task("one", "completed"),
            task("two", "partial", [(1, "source_gone")]),
            task("three", "failed", [(0, "source_gone")]),
        ],
        files=files,
        objects=[
            {"bucket": "generations", "path": place.partition("/")[2], "refs": refs, "state": "live"}
            for place, refs in ((places[STORED], 2), (places[SOUND], 1))
        ],
        letters=[Letter(f"task of {name}", "source_gone", (gone.url,)) for name in ("two", "three")],
        served={place: look for look, place in places.items()},
        on_disk=set(places.values()),
        in_storage=set(places.values()),
        expected={"p.png": PICTURE, "t.mp3": SOUND},
        waiting={"outlast.file_processing": 0},
        workers=2,
        hearing=2,
    )
