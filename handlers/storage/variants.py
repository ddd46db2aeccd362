"""Stores the variants of a picture beside it. The path of a variant has the picture's hash and the variant's name.

It also has a part of the variant's own hash. So the content at a path never changes, also when a variant of the same
name gets another size.
"""

import asyncio
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Final

from handlers.media import PreparedVariant
from handlers.storage import Storage
from handlers.storage.upload_file import UploadFile
from schemas.files import StoredVariant

HASH_DIGITS: Final = 12


def variant_paths(path: str, variants: Sequence[PreparedVariant]) -> dict[str, str]:
    """Return the path of each variant that is an object of its own, by name; `path` is that of the picture."""
    return {variant.name: _variant_path(path, variant) for variant in variants if not variant.is_picture}


async def store_variants(
    storage: Storage, path: str, variants: Sequence[PreparedVariant], *, verify: bool
) -> list[StoredVariant]:
    """Store the variants of the picture at `path`, all at once. The caller has claimed their paths.

    `verify`: check that the stored variants are complete. Otherwise new ones are returned with their MD5, for the
    database to check them.

    Raises:
        StorageRejectedError: a variant is refused permanently.
        StorageUnavailableError: a variant could not be stored this time.
    """
    paths = variant_paths(path, variants)
    own = [variant for variant in variants if variant.name in paths]
    puts = (storage.put(paths[each.name], UploadFile.from_prepared(each), verify=verify) for each in own)
    results = await asyncio.gather(*puts, return_exceptions=True)
    is_new: dict[str, bool] = {}
    for variant, result in zip(own, results, strict=True):
        if isinstance(result, BaseException):
            raise result
        is_new[variant.name] = result
    return [
        StoredVariant(
            name=variant.name,
            path=paths.get(variant.name, path),
            content_type=variant.content_type,
            width=variant.width,
            height=variant.height,
            frames=variant.frames,
            file_size=variant.file_size,
            sha256=variant.sha256,
            md5=variant.md5 if is_new.get(variant.name) and not verify else None,
        )
        for variant in variants
    ]


def _variant_path(path: str, variant: PreparedVariant) -> str:
    """Return `<path without its extension>.<name>-<digits of its hash>.<extension>`."""
    picture = PurePosixPath(path)
    return str(picture.with_name(f"{picture.stem}.{variant.name}-{variant.sha256[:HASH_DIGITS]}.{variant.extension}"))
