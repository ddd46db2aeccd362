"""Where the parts of a stack are, and what opens them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Access:
    """A Supabase project; of a given one we know no more than a worker must."""

    url: str
    service_role_key: str
    anon_key: str = ""
    jwt_secret: str = ""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where everything is, and what opens it: what `outlast up --json` prints."""

    receiver_url: str
    console_url: str
    supabase_url: str
    service_role_key: str
    anon_key: str
    jwt_secret: str
    database_url: str
    rabbitmq_url: str
    webhook_secret: str
    api_token: str
    console_token: str
    source_url: str
    worker_metrics_urls: list[str]
    data_dir: str
