"""The settings of the pipeline: everything that handling one file needs to know.

Read once from the environment (or `.env`), checked whole. `worker.settings.Settings` adds what moving messages needs.
"""

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from handlers import machine
from schemas.formats import ImageFormat
from schemas.jobs import Profile

FAL_SOURCES = ("fal.media", "*.fal.media", "fal.ai/files/", "storage.googleapis.com/falserverless/")


class SettingsError(ValueError):
    """The environment cannot be used as it is; the message names each variable, its problem and the remedy."""


def _split(value: object) -> object:
    """Turn `a, b c` into `("a", "b", "c")`; leave what is no string alone."""
    return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value


def _pairs(value: object) -> object:
    """Turn `a=DEBUG, b=info` into `{"a": "DEBUG", "b": "INFO"}`; leave what is no string alone."""
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
    """What the pipeline needs. Each field is the environment variable of the same name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    max_file_size_mb: float = Field(50, gt=0, description="Largest source file, in MiB of received bytes.")
    max_batch_size: int = Field(10, ge=1, le=100, description="Most files in one job.")
    chunk_size_kb: int = Field(
        256, ge=1, le=16384, description="Size of the pieces a download is read in, in KiB; they are written together."
    )
    max_concurrent: int = Field(3, ge=1, le=64, description="Files of one job processed at once.")
    source_allowlist: Words = Field(
        FAL_SOURCES,
        description="Hosts (`fal.media`, `*.fal.media`), hosts with a folder (`fal.ai/files/`) or exact origins "
        "(`http://127.0.0.1:4711`) files may be fetched from; separated by commas or spaces. A private address is only "
        "reached as an origin.",
    )
    source_allowlist_mode: Literal["enforce", "report"] = Field(
        "enforce",
        description="`enforce` refuses what is not on the list; `report` fetches it, but logs and counts it. All "
        "other rules hold in both: https on port 443, public addresses, at most three redirects.",
    )
    download_timeout_seconds: float = Field(300, gt=0, description="Longest time one download may take.")
    connect_timeout_seconds: float = Field(10, gt=0, description="Longest time to connect to a source.")
    stall_timeout_seconds: float = Field(
        30, gt=0, description="Longest wait for an answer's head, and longest silence in the middle of a download."
    )
    min_speed_kb: float = Field(
        10,
        ge=0,
        description="Slowest a source may be, in KiB a second averaged over STALL_TIMEOUT_SECONDS of waiting for it; "
        "0: any speed.",
    )
    max_connections_per_host: int = Field(
        16, ge=1, description="Downloads from one host at once; the others wait for their turn."
    )
    unsupported_files: Literal["ignore", "fail"] = Field(
        "ignore", description="What to do with weights, embeddings and other files that are no media."
    )

    codec_processes: int = Field(
        default_factory=machine.cores,
        ge=1,
        le=256,
        description="Processes that decode and encode.",
    )
    codec_timeout_seconds: float = Field(120, gt=0, description="Longest time decoding one file may take.")
    codec_memory_mb: int = Field(
        2048,
        ge=256,
        description="Most memory one codec process may use, in MiB; also the most a picture may take decoded.",
    )
    codec_max_tasks: int = Field(500, ge=0, description="Files after which a codec process is replaced; 0: never.")
    max_image_pixels: int = Field(100_000_000, ge=1, description="Most pixels of an image, all frames together.")
    max_image_frames: int = Field(10_000, ge=1, description="Most frames of an animation, or pages of a document.")
    image_format: ImageFormat = Field(
        ImageFormat.AUTO,
        description="`auto` (opaque: JPEG, alpha or animation: WebP), `keep`, `jpeg`, `webp`, `avif`.",
    )
    image_quality: int = Field(85, ge=1, le=100, description="Quality of lossy images.")
    strip_metadata: bool = Field(default=True, description="Remove EXIF, XMP and the like from images.")
    keep_provenance: bool = Field(
        default=False,
        description="Keep what an image says of its making: a file with a C2PA manifest as it is, byte for byte; of "
        "XMP the digital source type, the AI system and the credit, also when metadata is removed.",
    )

    supabase_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Address of the Supabase project, e.g. `https://abc.supabase.co`.",
    )
    supabase_service_role_key: SecretStr | None = Field(
        None, description="The project's service role (or `sb_secret_...`) key."
    )
    storage_bucket: str = Field("generations", min_length=1, description="Bucket the files are stored in.")
    storage_timeout_seconds: float = Field(60, gt=0, description="Longest time one request to Supabase may take.")

    generations_table: str = Field("generations", min_length=1, description="Your table of generations.")
    generations_schema: str = Field("public", min_length=1, description="The schema that table is in.")
    generations_id_column: str = Field("id", min_length=1, description="Its primary key.")
    generations_user_column: str = Field("user_id", min_length=1, description="Its column with the owner.")
    generations_status_column: str = Field("status", min_length=1, description="Its column with the state.")
    generations_output_column: str = Field("output", min_length=1, description="Its column with FAL's output.")
    generations_request_column: str = Field("request_id", min_length=1, description="Its column with FAL's request id.")
    generations_created_column: str = Field(
        "created_at", min_length=1, description="Its column with the creation time."
    )
    generations_model_column: str = Field(
        "model",
        min_length=1,
        description="Its column with FAL's model id (`fal-ai/flux/dev`) or a request's `response_url`; optional, only "
        "needed to ask FAL's queue again.",
    )
    generations_completed_value: str = Field("completed", min_length=1, description="The state that means completed.")

    temp_dir: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()),
        description="Where files lie while they are processed.",
    )
    out_dir: Path = Field(Path("outlast-files"), description="Where files are stored when there is no `SUPABASE_URL`.")
    log_level: Level = Field("INFO", description="Least severe line logged.")
    log_levels: Levels = Field(
        default_factory=dict,
        description="Levels of modules and what is below them, where they differ from LOG_LEVEL: "
        "`worker.broker=DEBUG,async_file_processor=WARNING`. The pipeline logs as `async_file_processor`.",
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console`, or `auto`: console on a terminal, else JSON."
    )

    @property
    def max_file_bytes(self) -> int:
        """Largest source file in bytes."""
        return int(self.max_file_size_mb * 1024 * 1024)

    @property
    def profile(self) -> Profile:
        """The profile of jobs that ask for nothing special."""
        return _profile(self.image_format, self.image_quality, self.strip_metadata, self.keep_provenance)

    @classmethod
    def load(cls, **overrides: Any) -> Self:  # noqa: ANN401 - the values of any field
        """Read the environment; raise `SettingsError` that names every variable that is wrong.

        Secret values are never part of the message.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            raise SettingsError(explain(cls, error)) from None


@lru_cache(maxsize=16)
def _profile(form: ImageFormat, quality: int, strip_metadata: bool, keep_provenance: bool) -> Profile:  # noqa: FBT001 - in their order
    """Make a profile once. Not `cached_property`, which `model_copy` would carry on to settings that were changed."""
    return Profile(format=form, quality=quality, strip_metadata=strip_metadata, keep_provenance=keep_provenance)


def explain(settings: type[BaseSettings], error: ValidationError) -> str:
    """Say what is wrong with the environment, one line a variable: name, problem, remedy."""
    lines = ["The configuration cannot be used:"]
    for problem in error.errors(include_url=False, include_context=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        field = settings.model_fields.get(name)
        shown = "" if field is None or _is_secret(field.annotation) else f" (got {problem['input']!r})"
        remedy = f" Remedy: set it to this: {field.description}" if field is not None and field.description else ""
        lines.append(f"  {name.upper()}: {problem['msg']}{shown}.{remedy}")
    return "\n".join(lines)


def _is_secret(annotation: object) -> bool:
    return "Secret" in repr(annotation)
