"""All settings: the pipeline's, and what moving messages needs. `docs` prints the README's table."""

import base64
import math
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode
from yarl import URL

from handlers import machine
from handlers.netguard import Allowlist
from handlers.settings import MediaSettings, Numbers, Secrets, SettingsError, Words
from schemas.jobs import Queue
from worker.broker_address import read_nodes
from worker.broker_tls import TLSFiles

SHORTEST_KEY: Final = 24
LONGEST_KEY: Final = 64
"""Bytes of a Standard Webhooks key (its specification, "Signature scheme")."""
JOBS_A_CORE: Final = 8
"""A job waits for six answers one after the other, most of its time where Supabase is 20 ms away."""


def _places(value: object) -> object:
    """Turn `file_processing=8 maintenance` into `{"file_processing": 8, "maintenance": None}`."""
    if not isinstance(value, str):
        return value
    pairs = [word.partition("=") for word in value.replace(",", " ").split()]
    return {queue: number or None for queue, _, number in pairs}


Places = Annotated[
    dict[Queue, Annotated[int, Field(ge=1, le=1000)] | None],
    NoDecode,
    BeforeValidator(_places),
    Field(min_length=1),
]


class Settings(MediaSettings):
    """What receiver and worker need. Each field is the environment variable of the same name in capitals."""

    rabbitmq_url: SecretStr = Field(
        SecretStr("amqp://guest:guest@localhost:5672/"),
        description="Address of the broker, `amqp://` or `amqps://`. More nodes of its cluster follow after commas, as "
        "`host:port`; they are tried in random order.",
    )
    rabbitmq_ca_file: Path | None = Field(
        None, description="Certificate authority of the broker's certificate, a PEM file; without it, the system's."
    )
    rabbitmq_cert_file: Path | None = Field(
        None, description="Client certificate for a broker that asks for one, a PEM file."
    )
    rabbitmq_key_file: Path | None = Field(None, description="Key of the client certificate, a PEM file.")
    rabbitmq_management_url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="RabbitMQ's management API, which `outlast doctor` asks for a cluster's nodes; without it, port "
        "15672 (TLS: 15671) of the first node is tried.",
    )
    retry_delays: Numbers = Field(
        (5, 30, 120, 600, 3600),
        description="Ladder of waiting times before the next attempt, in seconds, rising. One queue each.",
    )
    max_attempts: int = Field(8, ge=1, description="Attempts before a file that may still succeed is dead-lettered.")
    worker_concurrency: int = Field(
        default_factory=lambda: JOBS_A_CORE * machine.cores(),
        ge=1,
        le=1000,
        description="Jobs one worker has in flight. Most of the time they wait, for networks.",
    )
    worker_queues: Places = Field(
        dict.fromkeys(Queue),
        description="Queues one worker takes from, each with how many of its messages at once where that is not the "
        "usual number: `file_processing=8 maintenance`.",
    )
    shutdown_grace_seconds: float = Field(
        25, ge=0, description="How long a stopping worker may finish what it has begun; the rest is handed back."
    )

    task_timeout_minutes: float = Field(30, gt=0, description="Longest time one attempt at a job may take.")
    task_soft_timeout_minutes: float = Field(
        25, gt=0, description="How long an attempt begins new files; what it has not begun by then is retried."
    )
    broker_consumer_timeout_minutes: float = Field(
        30,
        gt=0,
        description="The broker's `consumer_timeout`, which AMQP cannot tell us: two minutes before, a job is put off.",
    )
    reconcile_every_seconds: float = Field(
        300, ge=0, description="How often one of the workers looks for completed generations nobody heard of; 0: never."
    )
    maintenance_every_seconds: float = Field(
        3600,
        ge=0,
        description="How often a worker removes objects nothing points at, and old rows; 0: never.",
    )
    task_keep_days: float = Field(
        30, ge=0, description="How long the rows of tasks that ended are kept; 0: for ever. Files stay on record."
    )
    optimize_every_hours: float = Field(
        0, ge=0, description="How often images stored with another profile than today's are stored anew; 0: never."
    )
    orphan_grace_hours: float = Field(
        24,
        gt=0,
        description="How long nothing must have pointed at an object before it is removed; at least two attempts.",
    )
    dead_archive_days: float = Field(30, gt=0, description="How long discarded dead letters are kept in the archive.")
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the HTTP API; without it, its routes refuse everybody."
    )
    console_token: SecretStr | None = Field(
        None, description="Opens `/console/`, to look and to act; without it, the console is closed."
    )
    console_read_token: SecretStr | None = Field(None, description="Opens `/console/` to look only.")
    console_session_hours: float = Field(
        12, gt=0, le=720, description="How long one is signed in to the console, in hours."
    )
    fal_key: SecretStr | None = Field(
        None, description="FAL key, to ask FAL's queue for the result of a request again; without it nothing is asked."
    )
    fal_queue_url: str = Field(
        "https://queue.fal.run", pattern=r"^https?://", description="Where FAL's queue API answers."
    )

    celery_queues: Words = Field(
        ("file_processing",),
        description="Queues Celery producers send `process_files` to, declared as Celery does; `none` for none.",
    )

    receiver_host: str = Field("0.0.0.0", description="Address the receiver listens on.")  # noqa: S104 - a server's default
    receiver_port: int = Field(8080, ge=1, le=65535, description="Port the receiver listens on.")
    metrics_host: str = Field("0.0.0.0", description="Address a worker serves health and metrics on.")  # noqa: S104 - the same
    metrics_port: int = Field(9108, ge=0, le=65535, description="Port a worker serves health and metrics on; 0: any.")
    supabase_webhook_secrets: Secrets = Field(
        (),
        description="Secrets Supabase's webhooks may carry or, as `whsec_...`, be signed with; several while rotating.",
    )
    fal_jwks_url: str = Field(
        "https://rest.alpha.fal.ai/.well-known/jwks.json",
        pattern=r"^https?://",
        description="Where FAL publishes the keys its webhooks are signed with.",
    )
    fal_user_ids: Words = Field((), description="FAL accounts whose webhooks are accepted; empty: all.")
    webhook_max_body_mb: float = Field(16, gt=0, le=128, description="Largest webhook body, in MiB.")

    @field_validator("retry_delays")
    @classmethod
    def _rising(cls, delays: tuple[int, ...]) -> tuple[int, ...]:
        if not delays or any(delay < 1 for delay in delays) or list(delays) != sorted(set(delays)):
            raise ValueError("must be whole seconds of at least 1, rising, none twice, e.g. 5,30,120")
        return delays

    @field_validator("rabbitmq_url")
    @classmethod
    def _broker(cls, url: SecretStr) -> SecretStr:
        """Never repeat the value: it holds a password."""
        read_nodes(url.get_secret_value())
        return url

    @field_validator("supabase_webhook_secrets")
    @classmethod
    def _strong(cls, secrets: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for secret in secrets:
            text = secret.get_secret_value()
            if text.startswith("whsec_") and not _is_signing_secret(text.removeprefix("whsec_")):
                raise ValueError("a signing secret is whsec_ and the base64 of 24 to 64 random bytes, and one is not")
        return secrets

    @field_validator("source_allowlist")
    @classmethod
    def _readable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        Allowlist(entries)
        return entries

    @model_validator(mode="after")
    def _tls_files(self) -> Self:
        if self.rabbitmq_tls:
            if self.rabbitmq_nodes[0].scheme != "amqps":
                raise ValueError("RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE: RABBITMQ_URL must begin with amqps:// for TLS")
            self.rabbitmq_tls.context()
        return self

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.supabase_url is None) != (self.supabase_service_role_key is None):
            raise ValueError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY belong together: set both")
        return self

    @model_validator(mode="after")
    def _longer_than_attempts(self) -> Self:
        if self.orphan_grace_seconds < 2 * self.attempt_seconds:
            raise ValueError(
                "ORPHAN_GRACE_HOURS: must be at least twice TASK_TIMEOUT_MINUTES: jobs at work count on what is stored"
            )
        return self

    @property
    def rabbitmq_nodes(self) -> tuple[URL, ...]:
        """The address of each node that RABBITMQ_URL names."""
        return read_nodes(self.rabbitmq_url.get_secret_value())

    @property
    def rabbitmq_tls(self) -> TLSFiles:
        """The files of RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE."""
        return TLSFiles(self.rabbitmq_ca_file, self.rabbitmq_cert_file, self.rabbitmq_key_file)

    @property
    def places(self) -> dict[Queue, int]:
        """How many messages of each queue are worked on at once, for the queues this worker takes from."""
        usual = {Queue.FILES: self.worker_concurrency, Queue.BULK: max(1, self.worker_concurrency // 4)}
        return {queue: number or usual.get(queue, 1) for queue, number in self.worker_queues.items()}

    @property
    def orphan_grace_seconds(self) -> int:
        """How long nothing must have pointed at an object before it is removed."""
        return math.ceil(self.orphan_grace_hours * 3600)

    @property
    def attempt_seconds(self) -> float:
        """Longest time of one attempt: within TASK_TIMEOUT_MINUTES, and well before the broker takes the message back.

        Two minutes before; where the broker's own limit is short, at half of it.
        """
        broker = self.broker_consumer_timeout_minutes * 60
        return min(self.task_timeout_minutes * 60, max(broker - 120, broker / 2))

    @property
    def soft_seconds(self) -> float:
        """How long an attempt begins new files: TASK_SOFT_TIMEOUT_MINUTES, and at most five sixths of an attempt."""
        return min(self.task_soft_timeout_minutes * 60, self.attempt_seconds * 5 / 6)

    def for_receiver(self) -> Self:
        """Return these settings if a receiver can run with them, else raise SettingsError."""
        if not self.supabase_webhook_secrets:
            raise SettingsError(
                "SUPABASE_WEBHOOK_SECRETS: is not set, and a receiver takes nothing from strangers. Remedy: set it to "
                "the secret your webhook sends, or to a signing secret (whsec_ and base64 of 24 to 64 random bytes)."
            )
        return self

    def for_worker(self) -> Self:
        """Return these settings if a worker can run with them, else raise SettingsError."""
        if self.supabase_url is None:
            raise SettingsError(
                "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: are not set. Remedy: copy both from your project's "
                "settings (API); `outlast process` works without them."
            )
        try:
            self.temp_dir.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.temp_dir):
                return self
        except OSError as error:
            raise SettingsError(
                f"TEMP_DIR: {self.temp_dir} cannot be written to ({error.strerror}). Remedy: set it to a folder "
                "this user may write, with room for the files in flight."
            ) from None

    def for_tasks(self) -> Self:
        """Return these settings if tasks can be submitted and looked at with them, else raise SettingsError."""
        if self.supabase_url is None:
            raise SettingsError(
                "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: are not set, and tasks live in Supabase. Remedy: copy "
                "both from your project's settings (API); `outlast process` works without them."
            )
        return self

    @property
    def project(self) -> tuple[str, str]:
        """The Supabase project's address, without a slash at its end, and the service role's key; empty when unset."""
        key = self.supabase_service_role_key
        return (self.supabase_url or "").rstrip("/"), key.get_secret_value() if key else ""

    def shown(self) -> dict[str, Any]:
        """Return the settings as they may be logged: secrets masked."""
        values = self.model_dump(mode="json")
        values["supabase_webhook_secrets"] = ["**********"] * len(self.supabase_webhook_secrets)
        return values


def _is_signing_secret(text: str) -> bool:
    try:
        return SHORTEST_KEY <= len(base64.b64decode(text, validate=True)) <= LONGEST_KEY
    except ValueError:
        return False
