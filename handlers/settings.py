"""The settings of the pipeline, read from the environment or `.env` and validated together.

`worker.settings.Settings` adds the settings of receiver and worker.
"""

import os
import re
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from handlers import cpu
from schemas.base import problem_text
from schemas.formats import ImageFormat
from schemas.jobs import Profile
from schemas.urls import FAL_CDN_HOST
from schemas.variants import Variant, Variants

FAL_CDN = (FAL_CDN_HOST, f"*.{FAL_CDN_HOST}")
FAL_SOURCES = (*FAL_CDN, "fal.ai/files/", "storage.googleapis.com/falserverless/")
FAL_IMMUTABLE = (*(f"{host}/files/" for host in FAL_CDN), "fal.ai/files/")
"""FAL's URLs whose content never changes: each file has a random name. Names below `falserverless/` can be reused."""


MAX_SHOWN_CHARACTERS: Final = 100
"""How many characters of an invalid value are repeated in the error."""


class SettingsError(ValueError):
    """A setting is missing or invalid. The message names each variable, its problem and the remedy."""


def _split(value: object) -> object:
    """Turn `a, b c` into `("a", "b", "c")`; return other types unchanged."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """Turn `a=DEBUG, b=info` into `{"a": "DEBUG", "b": "INFO"}`; return other types unchanged."""
    if not isinstance(value, str):
        return value
    pairs = [word.partition("=") for word in value.replace(",", " ").split()]
    return {name: level.upper() for name, _, level in pairs}


Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Numbers = Annotated[tuple[int, ...], NoDecode, BeforeValidator(_split)]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Levels = Annotated[dict[str, Level], NoDecode, BeforeValidator(_pairs)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split)]


class MediaSettings(BaseSettings):
    """The settings of the pipeline. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    max_file_size_mb: float = Field(
        50, gt=0, description="Maximum size of a source file, in MiB, counted on the bytes received."
    )
    max_batch_size: int = Field(
        10,
        ge=1,
        le=100,
        description="Maximum number of files in one job. An event with more files is split into several jobs.",
    )
    max_event_files: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="Maximum number of files that are taken from one event. Of an output with more, the first ones are "
        "taken, and a dead letter with the code `too_many_files` tells that there are more.",
    )
    chunk_size_kb: int = Field(
        256, ge=1, le=16384, description="Size of the chunks in which a download is read, in KiB."
    )
    max_concurrent: int = Field(
        3, ge=1, le=64, description="Number of files of one job that are processed at the same time."
    )
    source_allowlist: Words = Field(
        FAL_SOURCES,
        description="Sources from which files may be downloaded, separated by commas or spaces: hosts "
        "(`fal.media`, `*.fal.media`), hosts with a path prefix (`fal.ai/files/`) or exact origins "
        "(`http://127.0.0.1:4711`). A private address is allowed only as an exact origin.",
    )
    source_allowlist_mode: Literal["enforce", "report"] = Field(
        "enforce",
        description="`enforce` refuses sources that are not on the list. `report` downloads from them, and logs "
        "and counts each. All other rules apply in both modes: https on port 443, public addresses, "
        "at most three redirects.",
    )
    immutable_sources: Words = Field(
        FAL_IMMUTABLE,
        description="Sources of SOURCE_ALLOWLIST, in the same form, whose URLs always have the same content. A file "
        "that a user already has from such a URL is not downloaded again. Parameters that only sign a link do not "
        "count as part of the URL. `none`: no source.",
    )
    download_timeout_seconds: float = Field(300, gt=0, description="Time limit for one download, in seconds.")
    connect_timeout_seconds: float = Field(10, gt=0, description="Time limit for connecting to a source, in seconds.")
    stall_timeout_seconds: float = Field(
        30, gt=0, description="Time limit for the response headers, and for a pause within a download, in seconds."
    )
    min_speed_kb: float = Field(
        10,
        ge=0,
        description="Minimum download speed, in KiB per second, averaged over STALL_TIMEOUT_SECONDS of waiting "
        "for the source. 0: no minimum.",
    )
    max_connections_per_host: int = Field(
        32,
        ge=1,
        description="Maximum number of downloads from one host at the same time, half of them for one user. Others "
        "wait, in turn by user.",
    )
    temp_disk_mb: float = Field(
        1024,
        gt=0,
        description="Disk space for the files in process, in MiB, half of it for one user. A file takes twice its "
        "size and 4 MiB; a download waits until there is space for it.",
    )
    fal_key: SecretStr | None = Field(
        None,
        description="FAL API key. With it, files that only your account may read are downloaded (the key needs the "
        "permission `assets:read`), and results are requested again from FAL's queue.",
    )
    fal_api_url: str = Field(
        "https://api.fal.ai/v1",
        pattern=r"^https?://",
        description="Base URL of FAL's platform API, which signs links to private files.",
    )
    unsupported_files: Literal["skip", "fail", "keep"] = Field(
        "skip",
        description="Files of a type that is not stored: `skip` lists them with the reason, `fail` counts them as "
        "failed, `keep` stores them unchecked as `application/octet-stream`. HTML, PDF, scripts and programs are "
        "refused in each case.",
    )

    codec_processes: int = Field(
        default_factory=cpu.cores,
        ge=1,
        le=256,
        description="Number of processes that decode and encode.",
    )
    codec_timeout_seconds: float = Field(
        120, gt=0, description="Time limit for decoding and encoding one file, in seconds."
    )
    codec_memory_mb: int = Field(
        2048,
        ge=256,
        description="Memory limit of one codec process, in MiB. Also the maximum size of an image in memory.",
    )
    codec_max_tasks: int = Field(
        500,
        ge=0,
        description="Number of files after which a codec process is replaced. 1: each file gets its own. 0: never.",
    )
    max_image_pixels: int = Field(
        100_000_000,
        ge=1,
        description="Maximum number of pixels of an image, all pages added up. The frames of an animation may have 20 "
        "times as many together; if they have more than this, the animation is stored as it is.",
    )
    max_image_frames: int = Field(
        10_000, ge=1, description="Maximum number of frames of an animation, or pages of a document."
    )
    image_format: ImageFormat = Field(
        ImageFormat.AUTO,
        description="Format in which images are stored. `auto`: JPEG for opaque images, WebP for images with an "
        "alpha channel or animation. `keep`: the format of the source. Or `jpeg`, `webp`, `avif`.",
    )
    image_quality: Annotated[int, Field(ge=1, le=100)] | Literal["auto"] = Field(
        85,
        description="Quality of lossy images, 1 to 100. `auto`: for each still image the least one, from 40 to 95, "
        "that reaches IMAGE_SSIM; 85 for animations and variants.",
    )
    image_ssim: float = Field(
        0.985,
        gt=0.5,
        lt=1,
        description="With IMAGE_QUALITY=auto, the similarity (SSIM of the luma) of an image to its source. 1 is equal.",
    )
    variants: Annotated[Variants, NoDecode] = Field(
        (),
        description="Smaller versions of each picture and of each video's poster, separated by commas: "
        "`name:side[:format[:quality]][:animated]` fits into a square, `name:WIDTHxHEIGHT` is filled and what is least "
        "interesting is cut off. For example `thumb:256,card:400x300:webp:80`. At most 10, of at most 4096 pixels. "
        "`name:waveform` is the waveform of audio.",
    )
    strip_metadata: bool = Field(default=True, description="Remove EXIF, XMP and similar metadata from images.")
    keep_provenance: bool = Field(
        default=False,
        description="Keep the metadata that says how an image was made. A file with a C2PA manifest is stored "
        "unchanged. From XMP the digital source type, the AI system and the credit are kept, also "
        "with STRIP_METADATA.",
    )

    supabase_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="URL of the Supabase project, for example `https://abc.supabase.co`.",
    )
    supabase_public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="The same URL as browsers reach it, for the URLs of files in public buckets, if it is another one "
        "than SUPABASE_URL.",
    )
    supabase_service_role_key: SecretStr | None = Field(
        None, description="Service role key of the project, or a secret key (`sb_secret_...`)."
    )
    storage_bucket: str = Field("generations", min_length=1, description="Bucket in which files are stored.")
    storage_timeout_seconds: float = Field(60, gt=0, description="Time limit for one request to Supabase, in seconds.")

    generations_table: str = Field("generations", min_length=1, description="Your table of generations.")
    generations_schema: str = Field("public", min_length=1, description="Schema of that table.")
    generations_id_column: str = Field("id", min_length=1, description="Primary key column of that table.")
    generations_user_column: str = Field("user_id", min_length=1, description="Column with the owner's id.")
    generations_status_column: str = Field("status", min_length=1, description="Column with the status.")
    generations_output_column: str = Field("output", min_length=1, description="Column with FAL's output.")
    generations_request_column: str = Field("request_id", min_length=1, description="Column with FAL's request id.")
    generations_created_column: str = Field("created_at", min_length=1, description="Column with the creation time.")
    generations_model_column: str = Field(
        "model",
        min_length=1,
        description="Column with FAL's model id (`fal-ai/flux/dev`) or with the `response_url` of the request. "
        "Optional: only needed to request a result again from FAL's queue.",
    )
    generations_completed_value: str = Field(
        "completed", min_length=1, description="Value of the status column that means completed."
    )

    temp_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="Folder for temporary files during processing.",
    )
    out_dir: Path = Field(
        Path("outlast-files"), description="Folder in which files are stored when SUPABASE_URL is not set."
    )
    log_level: Level = Field("INFO", description="Minimum level of log lines.")
    log_levels: Levels = Field(
        default_factory=dict,
        description="Levels of single loggers and their children, where they differ from LOG_LEVEL: "
        "`worker.broker=DEBUG,async_file_processor=WARNING`. The pipeline logs as "
        "`async_file_processor`.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console`, or `auto`: console on a terminal, otherwise JSON."
    )

    @property
    def max_file_bytes(self) -> int:
        """Maximum size of a source file, in bytes."""
        return int(self.max_file_size_mb * 1024 * 1024)

    @property
    def temp_disk_bytes(self) -> int:
        """TEMP_DISK_MB in bytes."""
        return int(self.temp_disk_mb * 1024 * 1024)

    @property
    def profile(self) -> Profile:
        """The profile that these settings describe. Options of a job replace parts of it."""
        return _cached_profile(
            self.image_format,
            None if self.image_quality == "auto" else self.image_quality,
            self.image_ssim,
            self.strip_metadata,
            self.keep_provenance,
            self.variants,
        )

    @classmethod
    def load(cls, **overrides: Any) -> Self:  # noqa: ANN401 - the values of any field
        """Return the settings of the environment and `.env`; `overrides` replace single fields.

        Raises:
            SettingsError: names every invalid variable. Its message holds no secret value.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError(settings_error_text(cls, error)) from None


@lru_cache(maxsize=16)
def _cached_profile(
    image_format: ImageFormat,
    quality: int | None,
    ssim: float,
    strip_metadata: bool,  # noqa: FBT001 - a cache key
    keep_provenance: bool,  # noqa: FBT001
    variants: tuple[Variant, ...],
) -> Profile:
    """Make a profile. A `cached_property` would be outdated in a `model_copy`, which copies the cached value."""
    return Profile(
        format=image_format,
        **({"ssim": ssim} if quality is None else {"quality": quality}),
        strip_metadata=strip_metadata,
        keep_provenance=keep_provenance,
        variants=variants,
    )


def settings_error_text(settings: type[BaseSettings], error: ValidationError) -> str:
    """Return one line per problem: the variable, the problem, the value, and where to correct it."""
    lines = ["The configuration is invalid:"]
    for problem in error.errors(include_url=False):
        text, name = problem_text(problem), str(problem["loc"][0]) if problem["loc"] else ""
        field = settings.model_fields.get(name)
        lines.append(f"  {text}." if field is None else f"  {_field_problem(name, field, problem['input'], text)}")
    return "\n".join(lines)


def _field_problem(name: str, field: FieldInfo, value: object, problem: str) -> str:
    """Return the line for one variable. A secret value is not repeated."""
    variable, secret = name.upper(), _is_secret(field.annotation)
    shown = "" if secret else f" (it is {str(value)[:MAX_SHOWN_CHARACTERS]!r})"
    example = "" if secret or not isinstance(field.default, str | int | float) else f", for example {_set(name, field)}"
    meaning = f" Meaning: {field.description}" if field.description else ""
    return f"{variable}: {problem}{shown}. Remedy: correct or remove it{_place(variable)}{example}.{meaning}"


def _place(variable: str) -> str:
    """Return where the value of a variable was read, as the end of a sentence; empty if it is not in either place."""
    if any(key.upper() == variable for key in os.environ):
        return " in the environment"
    file = Path(".env")
    assigned = re.compile(rf"^\s*(export\s+)?{variable}\s*=", re.IGNORECASE | re.MULTILINE)
    return " in .env" if file.is_file() and assigned.search(file.read_text(errors="replace")) else ""


def _set(name: str, field: FieldInfo) -> str:
    """Return the text that sets a variable to its default, for example `MAX_CONCURRENT=3`."""
    value = str(field.default)
    return f"{name.upper()}={value.lower() if isinstance(field.default, bool) else value}"


def _is_secret(annotation: object) -> bool:
    return "Secret" in repr(annotation)
