"""All settings: those of the pipeline (`handlers/settings.py`), of receiver and worker. `make docs` lists them."""

import math
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode
from yarl import URL

from handlers import cpu, memory
from handlers.download.allowlist import Allowlist
from handlers.settings import Numbers, Secrets, SettingsError, Words
from handlers.sources.settings import SourceSettings, is_signing_secret
from handlers.sources.standard_webhooks import PREFIX
from schemas.jobs import Queue
from worker.broker.address import read_nodes
from worker.broker.tls import TLSFiles
from worker.notices.types import NOTICE_TYPES, SLACK_HOSTS

WEBHOOKS_AT_ONCE: Final = 4
"""Number of webhooks and notices that a worker sends at the same time."""
MAX_FORWARDED_MB: Final = 16
"""RabbitMQ 4 accepts no larger message, by default."""
SMALL_MACHINE_MIB: Final = 1024
"""`outlast serve` processes less at the same time on a machine with less memory, in MiB."""
SMALL_DEFAULTS: Final = {"codec_processes": 1, "worker_concurrency": 4, "temp_disk_mb": 256, "user_share": 0.5}
MIN_CODEC_MEMORY_MB: Final = 256
MIN_SECRET_CHARACTERS: Final = 16
"""Minimum length of the tokens and secrets with which a receiver authenticates requests."""


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_signing_secret(secret: SecretStr | None) -> bool:
    """Whether this is `whsec_` and the base64 of 24 to 64 bytes."""
    text = secret.get_secret_value() if secret else ""
    return text.startswith(PREFIX) and is_signing_secret(text.removeprefix(PREFIX))


def _parse_queues(value: object) -> object:
    """Parse `file_processing=8 maintenance` to `{"file_processing": 8, "maintenance": None}`."""
    if not isinstance(value, str):
        return value
    pairs = [word.partition("=") for word in value.replace(",", " ").split()]
    return {queue: number or None for queue, _, number in pairs}


QueueConcurrency = Annotated[
    dict[Queue, Annotated[int, Field(ge=1, le=1000)] | None],
    NoDecode,
    BeforeValidator(_parse_queues),
    Field(min_length=1),
]


class Settings(SourceSettings):
    """The settings of receiver and worker. Each field is the environment variable of the same name in capitals."""

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
        description="Delays before the next attempts, in whole seconds, ascending. Each delay has a queue of its own.",
    )
    max_attempts: int = Field(
        8, ge=1, description="Number of attempts after which a file with a retryable error becomes a dead letter."
    )
    worker_concurrency: int = Field(
        64,
        ge=1,
        le=1000,
        description="Number of jobs that one worker processes at the same time. Most of them wait for the network: "
        "CODEC_PROCESSES, MAX_CONNECTIONS_PER_HOST and TEMP_DISK_MB limit the rest.",
    )
    user_share: float = Field(
        0.125,
        ge=0,
        le=100,
        description="Number of files of one user that may wait in `file_processing`, as a share of "
        "WORKER_CONCURRENCY. The receiver publishes the user's further jobs to `file_processing.bulk`. 0: no limit.",
    )
    worker_queues: QueueConcurrency = Field(
        dict.fromkeys(Queue),
        description="Queues from which a worker takes messages. A number sets how many messages of a queue it "
        "processes at the same time: `file_processing=8 maintenance`.",
    )
    shutdown_grace_seconds: float = Field(
        25,
        ge=0,
        description="Time that a stopping worker has to finish its jobs, in seconds. It returns the other jobs to "
        "the queue.",
    )

    task_timeout_minutes: float = Field(30, gt=0, description="Time limit for one attempt at a job, in minutes.")
    task_soft_timeout_minutes: float = Field(
        25,
        gt=0,
        description="Time after which an attempt starts no new file, in minutes. The files not started by then "
        "are retried.",
    )
    broker_consumer_timeout_minutes: float = Field(
        30,
        gt=0,
        description="RabbitMQ's `consumer_timeout`, in minutes. AMQP does not report it, so set both to the same "
        "value. An attempt ends two minutes before this limit.",
    )
    reconcile_every_seconds: float = Field(
        300,
        ge=0,
        description="Interval at which one worker searches for missed generations and stalled tasks, in seconds. "
        "0: never.",
    )
    maintenance_every_seconds: float = Field(
        3600,
        ge=0,
        description="Interval at which one worker removes unreferenced objects and expired rows, in seconds. 0: never.",
    )
    task_keep_days: float = Field(
        30,
        ge=0,
        description="Number of days for which the rows of ended tasks are kept. 0: forever. The rows of files are "
        "not removed.",
    )
    optimize_every_hours: float = Field(
        0,
        ge=0,
        description="Interval at which images that were stored with another profile are compressed again, in "
        "hours. 0: never.",
    )
    orphan_grace_hours: float = Field(
        24,
        gt=0,
        description="Time for which an object must be unreferenced before it is removed, in hours. At least twice "
        "the time limit of an attempt.",
    )
    dead_archive_days: float = Field(
        30, gt=0, description="Number of days for which discarded dead letters are kept in the archive."
    )
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the HTTP API. If it is not set, the API refuses every request."
    )
    console_token: SecretStr | None = Field(
        None,
        description="Token that opens `/console/` for reading and for actions. If it is not set, the console is "
        "closed.",
    )
    console_read_token: SecretStr | None = Field(None, description="Token that opens `/console/` for reading only.")
    console_session_hours: float = Field(
        12, gt=0, le=720, description="Time after which a console session ends, in hours."
    )
    trusted_proxies: int = Field(
        0,
        ge=0,
        le=10,
        description="Number of reverse proxies in front of the receiver that append to `X-Forwarded-For`. Wrong "
        "sign-in attempts are counted by the address of the client that they report. 0: by the address of the peer.",
    )
    fal_queue_url: str = Field(
        "https://queue.fal.run", pattern=r"^https?://", description="Base URL of FAL's queue API."
    )

    forward_webhooks: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Address of your application to which FAL's verified webhooks are passed on, with their query. FAL "
        "calls one address only. Set it for receivers and workers.",
    )
    forward_secret: SecretStr | None = Field(
        None,
        description="Secret with which the webhooks for FORWARD_WEBHOOKS are signed (Standard Webhooks): `whsec_` and "
        "the base64 of 24 to 64 random bytes.",
    )

    notify_urls: Secrets = Field(
        (),
        description="Addresses that get notices of ended generations and new dead letters, separated by spaces. An "
        "address on `hooks.slack.com` gets Slack's form.",
    )
    notify_secret: SecretStr | None = Field(
        None,
        description="Secret with which notices are signed (Standard Webhooks): `whsec_` and the base64 of 24 to 64 "
        "random bytes. Slack needs none.",
    )
    notify_events: Words = Field(
        NOTICE_TYPES, description="Types of notices to send. For a chat, leave `generation.completed` out."
    )
    console_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+",
        description="Address of the console as you reach it, for links in notices: `https://outlast.example.com/console`.",
    )

    celery_queues: Words = Field(
        ("file_processing",),
        description="Queues to which Celery producers send `process_files`, declared as Celery declares them. "
        "`none`: no queues.",
    )

    receiver_host: str = Field(
        "0.0.0.0",  # noqa: S104 - a server's default
        description="Address on which the receiver listens. `::`: all addresses, IPv4 and IPv6.",
    )
    receiver_port: int = Field(8080, ge=1, le=65535, description="Port on which the receiver listens.")
    metrics_host: str = Field(
        "0.0.0.0",  # noqa: S104 - the same
        description="Address on which a worker serves health checks and metrics. `::`: all addresses, IPv4 and IPv6.",
    )
    metrics_port: int = Field(
        9108, ge=0, le=65535, description="Port on which a worker serves health checks and metrics. 0: any free port."
    )
    metrics_token: SecretStr | None = Field(
        None,
        description="Bearer token of `/metrics`, for a port that strangers can reach. If it is not set, no token is "
        "needed.",
    )
    webhook_max_body_mb: float = Field(16, gt=0, le=128, description="Maximum size of a webhook body, in MiB.")

    @field_validator("retry_delays")
    @classmethod
    def _check_ascending(cls, delays: tuple[int, ...]) -> tuple[int, ...]:
        if not delays or any(delay < 1 for delay in delays) or list(delays) != sorted(set(delays)):
            raise ValueError(
                "must be whole seconds, at least 1, in ascending order, without repetition, for example 5,30,120"
            )
        return delays

    @field_validator("rabbitmq_url")
    @classmethod
    def _check_addresses(cls, url: SecretStr) -> SecretStr:
        """Check the URL. The error message never contains it, because it contains a password."""
        read_nodes(url.get_secret_value())
        return url

    @field_validator("source_allowlist")
    @classmethod
    def _check_allowlist(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        Allowlist(entries)
        return entries

    @field_validator("immutable_sources")
    @classmethod
    def _check_immutable(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        Allowlist(entries, setting="IMMUTABLE_SOURCES")
        return entries

    @model_validator(mode="after")
    def _check_tls_files(self) -> Self:
        if self.rabbitmq_tls:
            if self.rabbitmq_nodes[0].scheme != "amqps":
                raise ValueError("RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE: RABBITMQ_URL must begin with amqps:// for TLS")
            self.rabbitmq_tls.context()
        return self

    @field_validator("notify_events")
    @classmethod
    def _check_events(cls, events: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(events) - set(NOTICE_TYPES):
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(NOTICE_TYPES)}")
        return events

    @model_validator(mode="after")
    def _check_notices(self) -> Self:
        urls = [URL(address) for address in self.notify_addresses]
        if any(url.scheme != "https" and not _is_loopback(url.host or "") for url in urls):
            raise ValueError("NOTIFY_URLS: each must begin with https:// (http:// only for this machine)")
        if any(url.host not in SLACK_HOSTS for url in urls) and not _is_signing_secret(self.notify_secret):
            raise ValueError(
                "NOTIFY_SECRET: set it to whsec_ followed by the base64 of 24 to 64 random bytes; NOTIFY_URLS needs it"
            )
        return self

    @model_validator(mode="after")
    def _check_forwarding(self) -> Self:
        if self.forward_webhooks is None:
            return self
        if not _is_signing_secret(self.forward_secret):
            raise ValueError(
                "FORWARD_SECRET: set it to whsec_ followed by the base64 of 24 to 64 random bytes; FORWARD_WEBHOOKS "
                "needs it"
            )
        if self.webhook_max_body_mb > MAX_FORWARDED_MB:
            raise ValueError(
                f"WEBHOOK_MAX_BODY_MB: must be at most {MAX_FORWARDED_MB} with FORWARD_WEBHOOKS, because RabbitMQ "
                "accepts no larger messages"
            )
        return self

    @model_validator(mode="after")
    def _check_supabase_pair(self) -> Self:
        if (self.supabase_url is None) != (self.supabase_service_role_key is None):
            raise ValueError("SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: only one of them is set; set both")
        return self

    @model_validator(mode="after")
    def _check_orphan_grace(self) -> Self:
        if self.orphan_grace_seconds < 2 * self.attempt_seconds:
            raise ValueError(
                "ORPHAN_GRACE_HOURS: must be at least twice TASK_TIMEOUT_MINUTES, because running jobs rely on "
                "objects that are stored already"
            )
        return self

    @property
    def notify_addresses(self) -> tuple[str, ...]:
        """The addresses of NOTIFY_URLS."""
        return tuple(address.get_secret_value() for address in self.notify_urls)

    @property
    def rabbitmq_nodes(self) -> tuple[URL, ...]:
        """The address of each node that RABBITMQ_URL names."""
        return read_nodes(self.rabbitmq_url.get_secret_value())

    @property
    def rabbitmq_tls(self) -> TLSFiles:
        """The files of RABBITMQ_CA_FILE, RABBITMQ_CERT_FILE and RABBITMQ_KEY_FILE."""
        return TLSFiles(self.rabbitmq_ca_file, self.rabbitmq_cert_file, self.rabbitmq_key_file)

    @property
    def queue_concurrency(self) -> dict[Queue, int]:
        """For each queue of this worker: how many of its messages are processed at the same time."""
        defaults = {Queue.FILES: self.worker_concurrency, Queue.BULK: max(1, self.worker_concurrency // 4)}
        defaults |= {Queue.WEBHOOKS: WEBHOOKS_AT_ONCE}
        return {queue: number or defaults.get(queue, 1) for queue, number in self.worker_queues.items()}

    @property
    def waiting_files_per_user(self) -> int:
        """Number of files of one user that may wait in the queue for files (USER_SHARE). 0: no limit."""
        return math.ceil(self.user_share * self.worker_concurrency)

    @property
    def orphan_grace_seconds(self) -> int:
        """Seconds for which an object must be unreferenced before it is removed."""
        return math.ceil(self.orphan_grace_hours * 3600)

    @property
    def attempt_seconds(self) -> float:
        """Time limit of one attempt, in seconds: TASK_TIMEOUT_MINUTES, or less where the broker's limit is shorter.

        An attempt ends two minutes before the broker's `consumer_timeout`, or at half of it if that is later.
        """
        broker = self.broker_consumer_timeout_minutes * 60
        return min(self.task_timeout_minutes * 60, max(broker - 120, broker / 2))

    @property
    def soft_seconds(self) -> float:
        """Seconds after which an attempt starts no new file. At most five sixths of `attempt_seconds`."""
        return min(self.task_soft_timeout_minutes * 60, self.attempt_seconds * 5 / 6)

    def for_receiver(self) -> Self:
        """Return these settings. Raise SettingsError if a receiver cannot run with them."""
        if not self.supabase_webhook_secrets:
            raise SettingsError(
                "SUPABASE_WEBHOOK_SECRETS: is not set, so the receiver could not authenticate any webhook. Remedy: set "
                "it to the secret that your webhook sends, or to a signing secret (`outlast init` makes one)."
            )
        if self.local_stack and not _is_loopback(self.receiver_host):
            raise SettingsError(
                f"LOCAL_STACK: is set, but RECEIVER_HOST is {self.receiver_host}, which other machines can reach. "
                "Remedy: remove LOCAL_STACK; only `outlast up` and `outlast demo` set it."
            )
        if not self.local_stack and (names := self._short_secrets()):
            raise SettingsError(
                f"{', '.join(names)}: shorter than {MIN_SECRET_CHARACTERS} characters, so it could be guessed. Remedy: "
                "set a random text, for example the output of `openssl rand -base64 32`."
            )
        return self

    def _short_secrets(self) -> list[str]:
        """Return the names of the receiver's secrets that are too short."""
        secrets = {
            "API_TOKEN": [self.api_token],
            "CONSOLE_TOKEN": [self.console_token],
            "CONSOLE_READ_TOKEN": [self.console_read_token],
            "METRICS_TOKEN": [self.metrics_token],
            "SUPABASE_WEBHOOK_SECRETS": self.supabase_webhook_secrets,
        }
        return [
            name
            for name, values in secrets.items()
            if any(value is not None and len(value.get_secret_value()) < MIN_SECRET_CHARACTERS for value in values)
        ]

    def for_worker(self) -> Self:
        """Return these settings. Raise SettingsError if a worker cannot run with them."""
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
                "to which this user may write, with enough space for the files in process."
            ) from None

    def for_serve(self) -> Self:
        """Return the settings of `outlast serve`: what is not set is made to fit the memory of this machine.

        Raises:
            SettingsError: a receiver or a worker cannot run with these settings.
        """
        self.for_receiver().for_worker()
        given, available = self.model_fields_set, memory.limit_mib()
        small = available < SMALL_MACHINE_MIB
        defaults = SMALL_DEFAULTS.copy() if small else {}
        processes = self.codec_processes if "codec_processes" in given else defaults.get("codec_processes", cpu.cores())
        share = max(MIN_CODEC_MEMORY_MB, available // 2 // processes)
        defaults["codec_memory_mb"] = min(self.codec_memory_mb, share)
        return self.model_copy(update={name: value for name, value in defaults.items() if name not in given})

    def for_tasks(self) -> Self:
        """Return these settings. Raise SettingsError if tasks cannot be submitted and read with them."""
        if self.supabase_url is None:
            raise SettingsError(
                "SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY: are not set, and tasks are stored in Supabase. "
                "Remedy: copy both from your project's settings (API); `outlast process` works without them."
            )
        return self

    @property
    def project(self) -> tuple[str, str]:
        """The URL of the Supabase project without a final slash, and the service role key. Both empty if not set."""
        key = self.supabase_service_role_key
        return (self.supabase_url or "").rstrip("/"), key.get_secret_value() if key else ""

    def for_log(self) -> dict[str, Any]:
        """Return the settings that differ from their defaults for the log, with secrets masked."""
        values = self.model_dump(mode="json", exclude_defaults=True)
        if self.supabase_webhook_secrets:
            values["supabase_webhook_secrets"] = ["**********"] * len(self.supabase_webhook_secrets)
        if self.notify_urls:
            values["notify_urls"] = ["**********"] * len(self.notify_urls)
        return values
