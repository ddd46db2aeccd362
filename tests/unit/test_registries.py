"""What is derived from a registry agrees with it: sources, and content types."""

from typing import get_args

from handlers.media import MEDIA_TYPES
from handlers.sources import SOURCES
from schemas.jobs import Origin
from schemas.storage import ContentType
from worker.observability import metric_labels
from worker.settings import Settings
from worker.web.openapi import document


def test_content_type_has_exactly_the_registered_media_types():
    assert sorted(ContentType) == sorted(media.content_type for media in MEDIA_TYPES)


def test_each_source_has_an_origin_a_described_route_and_labels():
    names = {source.name for source in SOURCES}
    assert len(names) == len(SOURCES)
    assert names <= set(get_args(Origin))
    assert {f"/webhooks/{name}" for name in names} == {path for path in document()["paths"] if "webhooks" in path}
    assert {name for (name,) in metric_labels.SOURCE} == names


def test_each_source_is_built_from_the_settings():
    settings = Settings(_env_file=None)
    assert [source.from_settings(settings).name for source in SOURCES] == [source.name for source in SOURCES]
