"""Buckets and content types, and the request for a single upload."""

from enum import StrEnum

from pydantic import Field

from schemas.base import Frozen


class StorageBucket(StrEnum):
    """Names of buckets. STORAGE_BUCKET may be any other name."""

    GENERATIONS = "generations"


class ContentType(StrEnum):
    """The media types that Outlast stores. A test checks that they are those of `handlers.media.MEDIA_TYPES`."""

    JPEG = "image/jpeg"
    PNG = "image/png"
    WEBP = "image/webp"
    GIF = "image/gif"
    AVIF = "image/avif"
    TIFF = "image/tiff"
    HEIC = "image/heic"
    SVG = "image/svg+xml"
    BMP = "image/bmp"
    TGA = "image/x-tga"
    ICO = "image/vnd.microsoft.icon"
    JP2 = "image/jp2"
    PSD = "image/vnd.adobe.photoshop"
    EXR = "image/x-exr"
    MP4 = "video/mp4"
    WEBM = "video/webm"
    MOV = "video/quicktime"
    MKV = "video/x-matroska"
    VIDEO_3GP = "video/3gpp"
    TS = "video/mp2t"
    AVI = "video/x-msvideo"
    MP3 = "audio/mpeg"
    WAV = "audio/wav"
    FLAC = "audio/flac"
    OGG = "audio/ogg"
    M4A = "audio/mp4"
    AAC = "audio/aac"
    AIFF = "audio/aiff"
    WEBA = "audio/webm"
    MKA = "audio/x-matroska"
    QTA = "audio/quicktime"
    AUDIO_3GP = "audio/3gpp"
    GLB = "model/gltf-binary"
    GLTF = "model/gltf+json"
    OBJ = "model/obj"
    PLY = "model/ply"
    FBX = "model/fbx"
    STL = "model/stl"
    USDZ = "model/vnd.usdz+zip"
    THREE_MF = "model/3mf"
    MTL = "model/mtl"
    SPZ = "model/spz"
    SPLAT = "model/splat"
    ZIP = "application/zip"
    JSON = "application/json"
    VTT = "text/vtt"
    SRT = "application/x-subrip"
    CSV = "text/csv"
    TXT = "text/plain"
    SAFETENSORS = "application/x-safetensors"
    NPY = "application/x-npy"
    NPZ = "application/x-npz"


class FileUploadRequest(Frozen):
    """The description of a single file to upload. `file_size` must be the size of the data in bytes."""

    bucket_name: str = StorageBucket.GENERATIONS
    filename: str = Field(min_length=1)
    content_type: ContentType
    file_size: int = Field(ge=1)
