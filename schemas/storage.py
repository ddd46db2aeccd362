"""Names of buckets and content types, and the request of a single upload."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Frozen


class StorageBucket(StrEnum):
    """Buckets the API knows by name; `STORAGE_BUCKET` may name another."""

    GENERATIONS = "generations"


class ContentType(StrEnum):
    """Every media type Outlast stores."""

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
    """A single file to store: `file_size` in bytes must be the size of the data handed over."""

    bucket_name: str = StorageBucket.GENERATIONS
    filename: str = Field(min_length=1)
    content_type: ContentType
    file_size: int = Field(ge=1)
