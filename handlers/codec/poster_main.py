"""The request for the poster of a video, or the waveform of audio, in a codec process; see `decoder_main`."""

import importlib
from pathlib import Path
from typing import Any, Final

from handlers.codec.decoder_main import encode_options, translated, variant_fields
from handlers.codec.work_folder import WorkFolder
from handlers.media import BY_CONTENT_TYPE, Kind, Limits, Poster

MODULES: Final = {Kind.VIDEO: "handlers.media.av.poster", Kind.AUDIO: "handlers.media.av.waveform"}
"""The module whose `make` makes the picture of files of each kind."""


def make(folder: str, content_type: str, options: dict[str, Any], limits: dict[str, Any]) -> dict[str, Any]:
    """Make the picture of the file in the work folder, which has been prepared before; see `Codec.make_poster`.

    `options` and `limits` are the fields of `EncodeOptions` and `Limits`; returns those of `schemas.codec.MadePoster`.
    """
    files, bounds = WorkFolder(Path(folder)), Limits(**limits)
    module = importlib.import_module(MODULES[BY_CONTENT_TYPE[content_type].kind])
    with translated(bounds):
        poster: Poster = module.make(files.source, files.target, content_type, encode_options(options), bounds)
    return {"thumbhash": poster.thumbhash, "variants": [variant_fields(variant) for variant in poster.variants]}
