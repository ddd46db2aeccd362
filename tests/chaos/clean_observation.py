"""The observation of a small run without deviations, which `test_audit` then changes."""

from uuid import uuid4

from tests.chaos.audit import Observed, ObservedDeadLetter
from tests.chaos.fingerprint import Fingerprint
from tests.chaos.generation_plan import File, Generation

PICTURE = Fingerprint("a" * 64, (8, 6, 1))
STORED = Fingerprint("b" * 64, (8, 6, 1))  # the same picture, compressed
SOUND = Fingerprint("c" * 64)
USER = "user"


def object_path(fingerprint: Fingerprint) -> str:
    """Return the path of an object with this content."""
    return f"generations/{USER}/{fingerprint.sha256[:2]}/{fingerprint.sha256}.x"


def generation(name, *files):
    return Generation(name, USER, {}, files)


def record(name, position, fingerprint):
    """Return a row of outlast_files."""
    return {
        "id": uuid4(),
        "generation_id": name,
        "user_id": USER,
        "position": position,
        "bucket": "generations",
        "path": object_path(fingerprint).partition("/")[2],
        "content_type": "x/y",
        "width": fingerprint.picture[0] if fingerprint.picture else None,
        "height": fingerprint.picture[1] if fingerprint.picture else None,
        "sha256": fingerprint.sha256,
        "file_size": 9,
        "source_sha256": fingerprint.sha256,
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


def clean_observation() -> Observed:
    """Return a run of three generations: one stored completely, one partly with the same picture, one failed."""
    gone = File("http://s/gone.png", "gone.png", "source_gone")
    picture, sound = File("http://s/p.png", "p.png"), File("http://s/t.mp3", "t.mp3")
    files = [record("one", 0, STORED), record("one", 1, SOUND), record("two", 0, STORED)]
    rows = {
        "one": {"media_status": "completed", "media": [file | {"status": "stored"} for file in files[:2]]},
        "two": {"media_status": "partial", "media": [files[2] | {"status": "stored"}, {"status": "failed"}]},
        "three": {"media_status": "failed", "media": [{"status": "failed"}]},
    }
    object_paths = {fingerprint: object_path(fingerprint) for fingerprint in (STORED, SOUND)}
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
            {"bucket": "generations", "path": object_path.partition("/")[2], "refs": refs, "state": "live"}
            for object_path, refs in ((object_paths[STORED], 2), (object_paths[SOUND], 1))
        ],
        dead_letters=[ObservedDeadLetter(f"task of {name}", "source_gone", (gone.url,)) for name in ("two", "three")],
        served={object_path: fingerprint for fingerprint, object_path in object_paths.items()},
        on_disk=set(object_paths.values()),
        in_storage=set(object_paths.values()),
        expected={"p.png": PICTURE, "t.mp3": SOUND},
        waiting={"outlast.file_processing": 0},
        workers=2,
        listening=2,
    )
