"""A file that is known by its URL is used only where the batch would store the same file, at the same place."""

from dataclasses import replace

import pytest

from handlers.pipeline import process
from schemas.jobs import Profile
from tests.unit.pipeline.test_pipeline import batch, codec, deps  # noqa: F401 - a fixture

PATH = "/files/photo.png"


async def run_again(source, codec, tmp_path, *, change=None, settings=None, **more):  # noqa: F811
    """Store a file, then process its URL again with the file, changed by `change`, as a known one."""
    async with deps(source, codec, tmp_path) as first_deps:
        (stored,) = (await process(batch(source, PATH), first_deps)).stored
    async with deps(source, codec, tmp_path) as again_deps:
        again = replace(again_deps, settings=again_deps.settings.model_copy(update=settings or {}))
        known = stored.model_copy(update={"md5": "0" * 32, **(change or {})})
        wanted = replace(batch(source, PATH), generation_id="another", known=[known], **more)
        (file,) = (await process(wanted, again)).stored
    return stored, file, again.observer


async def test_a_known_file_needs_no_step(source, codec, tmp_path):  # noqa: F811
    before = source.hits["photo.png"]
    stored, file, observer = await run_again(source, codec, tmp_path)
    assert source.hits["photo.png"] == before + 1
    assert (observer.stages, observer.files, observer.bytes) == ([], [("image", "deduplicated")], [])
    assert file == stored.model_copy(update={"id": file.id, "deduplicated": True, "md5": "0" * 32})
    assert file.id != stored.id


@pytest.mark.parametrize(
    "case",
    [
        {"change": {"source_key": "another"}},
        {"change": {"bucket": "another"}},
        {"change": {"path": "someone/ab/abc.jpg"}, "folders": ["user"]},
        {"change": {"profile": "auto-q1-strip"}},
        {"change": {"content_type": "application/pdf"}},
        {"change": {"content_type": "application/octet-stream"}},
        {"change": {"original_size": 10**9}},
        {"profile": Profile(quality=60)},
    ],
    ids=repr,
)
async def test_a_file_that_would_be_stored_otherwise_is_downloaded(source, codec, tmp_path, case):  # noqa: F811
    _, file, observer = await run_again(source, codec, tmp_path, **case)
    assert observer.stages[:2] == ["download", "detect"]
    assert file.content_type == "image/jpeg"


async def test_an_unverified_file_is_used_while_such_files_are_kept(source, codec, tmp_path):  # noqa: F811
    change, settings = {"content_type": "application/octet-stream"}, {"unsupported_files": "keep"}
    _, file, observer = await run_again(source, codec, tmp_path, change=change, settings=settings)
    assert (file.deduplicated, observer.files) == (True, [("data", "deduplicated")])
