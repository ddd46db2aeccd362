"""Addresses and credentials of the parts of a local stack."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SupabaseCredentials:
    """Address and keys of a Supabase project. A project given by the environment has only the first two."""

    url: str
    service_role_key: str
    anon_key: str = ""
    jwt_secret: str = ""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Addresses and credentials of all parts, in the form that `outlast up --json` prints."""

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
