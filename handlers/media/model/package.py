"""USDZ and 3MF, models that are ZIP files: every member is unpacked and its checksum compared, as in other archives.

USDZ: https://openusd.org/release/spec_usdz.html. 3MF: https://github.com/3MFConsortium/spec_core.
"""

import zipfile
from pathlib import Path
from typing import Final

from handlers.errors import FileCorruptedError
from handlers.media import Decoded, EncodeOptions, Limits, archive
from handlers.media.describe import check_and_describe
from handlers.media.formats import cut_tail
from handlers.media.model import mesh_xml

USDZ: Final = "model/vnd.usdz+zip"
USD_BEGINNINGS: Final = (b"PXR-USDC", b"#usda ")
MODEL_SUFFIX: Final = ".model"
CONTENT_TYPES: Final = "[Content_Types].xml"


def prepare(
    source: Path,
    target: Path,
    content_type: str,
    options: EncodeOptions,  # noqa: ARG001 - all kinds have the same signature
    limits: Limits,  # noqa: ARG001 - the same
) -> Decoded:
    """Validate a model in a ZIP file.

    Raises the errors of `archive.prepare`, and FileCorruptedError also if the members are not a complete model.
    """
    path = cut_tail(source, target, content_type)
    archive.check_archive(path)
    with zipfile.ZipFile(path) as members:
        if content_type == USDZ:
            _check_usdz(members)
        else:
            _check_3mf(members)
    return check_and_describe(path, target, content_type)


def _check_usdz(members: zipfile.ZipFile) -> None:
    """Check that no member is compressed, and that the first one is a scene."""
    if not members.infolist():
        raise FileCorruptedError("the model has no members")
    first = members.infolist()[0]
    if any(member.compress_type != zipfile.ZIP_STORED for member in members.infolist()):
        raise FileCorruptedError("a member of the model is compressed")
    with members.open(first) as file:
        beginning = file.read(max(map(len, USD_BEGINNINGS)))
    if not beginning.startswith(USD_BEGINNINGS):
        raise FileCorruptedError(f"the model's first member {first.filename!r} is not a scene")


def _check_3mf(members: zipfile.ZipFile) -> None:
    """Check that there is a model, and that the triangles of each model refer to vertices of their mesh."""
    names = [member.filename for member in members.infolist()]
    models = [name for name in names if name.lower().endswith(MODEL_SUFFIX)]
    if CONTENT_TYPES not in names or not models:
        raise FileCorruptedError(f"the model lacks {CONTENT_TYPES} or a member {MODEL_SUFFIX}")
    for name in models:
        with members.open(name) as file:
            mesh_xml.check(file)
