"""Every registered type has a sample, a strict decoder, a module for its kind and a structure check."""

import importlib

import pytest

from handlers.codec.decoder_main import KIND_MODULES
from handlers.media import BY_CONTENT_TYPE, MEDIA_TYPES, Kind, MediaType
from tests.fuzz.strict_decoders import STRICT_DECODERS
from tests.media_samples import MAKERS


@pytest.mark.parametrize("media", MEDIA_TYPES, ids=lambda media: media.content_type)
def test_registered_type_has_all_parts(media: MediaType) -> None:
    sampled = {content_type for content_type, _ in MAKERS.values()}
    assert media.content_type in sampled, "add a sample to MAKERS in tests/media_samples.py"
    assert media.content_type in STRICT_DECODERS, "add a decoder to STRICT_DECODERS in tests/fuzz/strict_decoders.py"
    assert hasattr(importlib.import_module(KIND_MODULES[media.kind]), "prepare")
    if media.kind in {Kind.VIDEO, Kind.AUDIO}:
        assert media.reader is not None
    if media.structure is not None:
        module = importlib.import_module(f"handlers.media.{media.structure}")
        assert hasattr(module, "check_content") != hasattr(module, "check_and_repair")


def test_samples_and_decoders_are_of_registered_types_only() -> None:
    assert {content_type for content_type, _ in MAKERS.values()} == set(STRICT_DECODERS) == set(BY_CONTENT_TYPE)
    assert len(BY_CONTENT_TYPE) == len(MEDIA_TYPES) == len({media.extension for media in MEDIA_TYPES})
    assert set(KIND_MODULES) == set(Kind)
