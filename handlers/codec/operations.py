"""The requests that `Codec` sends to a codec process for a file, and the validation of their results."""

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Final

from pydantic import JsonValue

from handlers.codec.request import Request
from handlers.codec.variants import ExpectedVariants, variant_options, waveform_options
from handlers.media import (
    BY_CONTENT_TYPE,
    VARIANT,
    EncodeOptions,
    Kind,
    Limits,
    Prepared,
    PreparedPoster,
    VariantOptions,
)
from handlers.media.describe import size_and_hashes
from schemas.codec import MadePoster, PreparedFile
from schemas.jobs import Profile

PREPARE: Final = "handlers.codec.decoder_main:prepare"
MAKE_POSTER: Final = "handlers.codec.poster_main:make"
OPTION_FIELDS: Final = {field.name for field in fields(EncodeOptions)}
"""The fields of a profile that a codec process needs."""


def prepare_request(
    source: Path, target: Path, content_type: str, profile: Profile, limits: Limits
) -> Request[Prepared]:
    """Return the request that `Codec.prepare` sends."""
    wanted = variant_options(profile)
    files = _variant_files(target, wanted)
    variants = ExpectedVariants(wanted, tuple(files.values()))
    parse = partial(_parse_prepared, {"source": source, "target": target}, variants, content_type)
    arguments = _arguments(content_type, profile, wanted, limits)
    return Request(
        PREPARE, arguments, parse, limits.seconds, gets_folder=True, files=(source, target), extra_files=files
    )


def poster_request(
    source: Path, target: Path, content_type: str, profile: Profile, limits: Limits
) -> Request[PreparedPoster]:
    """Return the request that `Codec.make_poster` sends. The files of variants are beside `target`, which is unused."""
    wanted = poster_variants(content_type, profile) or ()
    files = _variant_files(target, wanted)
    parse = partial(_parse_poster, ExpectedVariants(wanted, tuple(files.values())))
    arguments = _arguments(content_type, profile, wanted, limits)
    return Request(
        MAKE_POSTER, arguments, parse, limits.seconds, gets_folder=True, files=(source, target), extra_files=files
    )


def poster_variants(content_type: str, profile: Profile) -> tuple[VariantOptions, ...] | None:
    """Return the variants to make of a video's poster or of audio's waveform; None if the file needs no second request.

    A video always needs one, for its placeholder; audio only if the profile has waveforms.
    """
    kind = BY_CONTENT_TYPE[content_type].kind if content_type in BY_CONTENT_TYPE else None
    if kind is Kind.VIDEO:
        return variant_options(profile)
    return (waveform_options(profile) or None) if kind is Kind.AUDIO else None


def _variant_files(target: Path, wanted: Sequence[VariantOptions]) -> dict[str, Path]:
    return {f"{VARIANT}{number}": target.with_name(f"{target.name}-{number}") for number in range(len(wanted))}


def _arguments(
    content_type: str, profile: Profile, wanted: Sequence[VariantOptions], limits: Limits
) -> list[JsonValue]:
    options = profile.model_dump(mode="json", include=OPTION_FIELDS) | {"variants": [asdict(each) for each in wanted]}
    return [content_type, options, asdict(limits)]


def _parse_prepared(paths: dict[str, Path], variants: ExpectedVariants, requested: str, result: object) -> Prepared:
    """Validate the result of `prepare`; compute size and hashes. Raises ValueError if it is not valid.

    A result may have a type with a module of its own (`prepared_by`), such as SVG, only if the file was detected as
    that type: a decoder of pictures that has been taken over must not return a picture with scripts.
    """
    file = PreparedFile.model_validate(result)
    media = BY_CONTENT_TYPE.get(file.content_type)
    if media is None:
        raise ValueError(f"files of type {file.content_type} are not stored")
    if media.prepared_by is not None and media.content_type != requested:
        raise ValueError(f"a file of type {requested} does not become {media.content_type}")
    path = paths[file.file]
    try:
        size, sha256, md5 = size_and_hashes(path)
    except OSError as error:
        raise ValueError(f"the {file.file} cannot be read: {error.strerror}") from None
    properties = file.model_dump(exclude={"file", "variants"})
    prepared = Prepared(path=path, extension=media.extension, file_size=size, sha256=sha256, md5=md5, **properties)
    return replace(prepared, variants=variants.parse(prepared, file.variants)) if file.variants else prepared


def _parse_poster(variants: ExpectedVariants, result: object) -> PreparedPoster:
    """Validate the result of `poster_main.make`; compute sizes and hashes. Raises ValueError if it is not valid."""
    poster = MadePoster.model_validate(result)
    return PreparedPoster(thumbhash=poster.thumbhash, variants=variants.parse(None, poster.variants))
