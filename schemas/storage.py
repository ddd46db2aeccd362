"""Buckets and content types, and the request for a single upload."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Frozen


class StorageBucket(StrEnum):
    """Known names of buckets. STORAGE_BUCKET may name another."""

    GENERATIONS = "generations"


class ContentType(StrEnum):
    """The media types that Outlast stores: those of `handlers.media.MEDIA_TYPES`, as a test checks."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    AVIF = "image/avif"
    TIFF = "image/tiff"
    HEIC = "image/heic"
    MP4 = "video/mp4"
    WEBM = "video/webm"
    MOV = "video/quicktime"
    MKV = "video/x-matroska"
    MP3 = "audio/mpeg"
    WAV = "audio/wav"
    FLAC = "audio/flac"
    OGG = "audio/ogg"
    M4A = "audio/mp4"
    AAC = "audio/aac"
    GLB = "model/gltf-binary"
    GLTF = "model/gltf+json"
    OBJ = "model/obj"
    PLY = "model/ply"
    ZIP = "application/zip"


class FileUploadRequest(Frozen):
    """The description of a single file to upload. `file_size` must be the size of the data in bytes."""

    bucket_name: str = StorageBucket.GENERATIONS
    filename: str = Field(min_length=1)
    content_type: ContentType
    file_size: int = Field(ge=1)
