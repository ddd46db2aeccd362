"""What repeats a registry agrees with it: sources in routes and labels, media types in the documents."""

import re
from pathlib import Path
from typing import get_args

import pytest

from handlers.media import MEDIA_TYPES, Kind
from handlers.sources import SOURCES
from schemas.jobs import Origin
from worker.observability import metric_labels
from worker.settings import Settings
from worker.web.openapi import document

MEDIA_PAGE = Path(__file__).parents[3] / "deploy/docs/media.md"


@pytest.mark.parametrize("kind", Kind)
def test_table_of_media_types_lists_the_registered_types(kind):
    row = re.search(rf"^\| (?:3D )?{kind} \| ([^|]+) \|", MEDIA_PAGE.read_text(), re.MULTILINE)
    listed = sorted(row[1].lower().split(", "))
    names = [
        {media.extension, media.content_type.partition("/")[2].removeprefix("x-")}
        for media in MEDIA_TYPES
        if media.kind is kind
    ]
    missing = [types for types in names if types.isdisjoint(listed)]
    assert missing == [], "add the type to the table in deploy/docs/media.md"
    assert len(listed) == len(names), f"remove what is not stored from the table in deploy/docs/media.md: {listed}"


def test_each_source_has_an_origin_a_described_route_and_labels():
    names = {source.name for source in SOURCES}
    assert len(names) == len(SOURCES)
    assert names <= set(get_args(Origin))
    assert {f"/webhooks/{name}" for name in names} == {path for path in document()["paths"] if "webhooks" in path}
    assert {name for (name,) in metric_labels.SOURCE} == names


def test_each_source_is_built_from_the_settings():
    settings = Settings(_env_file=None)
    assert [source.from_settings(settings).name for source in SOURCES] == [source.name for source in SOURCES]
