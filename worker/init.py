"""`outlast init`: the SQL that sets a database up, and the `.env` that goes with it, with one secret in both."""

import base64
import json
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker import sql
from worker.settings import Settings
from worker.settings_table import COMPUTED, default_text

KEY_BYTES: Final = 32
NAMED: Final = {
    "generations_schema": "generations_schema",
    "generations_table": "generations_table",
    "id_column": "generations_id_column",
    "user_column": "generations_user_column",
    "status_column": "generations_status_column",
    "output_column": "generations_output_column",
    "request_column": "generations_request_column",
    "created_column": "generations_created_column",
}
"""What the database is told of, and the settings of the same meaning."""
FILL_IN: Final = {
    "supabase_url": "Project settings, API: the project's URL",
    "supabase_service_role_key": "the same page: the service_role (or sb_secret_...) key; never in a browser",
    "rabbitmq_url": "amqp://user:password@host:5672/vhost, amqps:// for TLS",
}
MADE: Final = {
    "supabase_webhook_secrets": "what the database signs its webhooks with; the SQL of the same run sets it there",
    "api_token": "the bearer token of the HTTP API",
}
PLAIN: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@,+=%*")

HEADER: Final = """\
-- Outlast {version} for {table}. Paste it into the SQL editor (or: psql -f). One transaction: all of it or nothing.
-- Repeatable: apply it again after an upgrade, or with other names. `outlast init --remove` prints what takes it out.
begin;
"""
SETTINGS: Final = """
-- Your names, and where the webhook goes.
insert into public.outlast_settings (key, value) values
{rows}
  on conflict (key) do update set value = excluded.value;

"""
FINISH: Final = """
-- Your bucket, private, with the policy on it; the secret, in Vault where there is one; your table, bound.
select public.outlast_install_storage(p_make_bucket => true);
select public.outlast_set_webhook_secret({secret});
select public.outlast_install();
commit;
"""
NO_URL: Final = """
-- No address was given (--receiver-url). Nothing is sent until this is set:
-- update public.outlast_settings set value = 'https://outlast.example.com/webhooks/supabase' where key = 'webhook_url';
"""


class Composed(BaseSettings):
    """Passwords of what deploy/compose.yml starts beside us. Those in the environment or `.env` are kept."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    rabbitmq_password: str = Field(default_factory=lambda: secrets.token_hex(16))
    grafana_password: str = Field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Setup:
    """What a project needs: `sql` for its database, `env` for receiver and workers."""

    sql: str
    env: str

    def document(self) -> str:
        """Return both as one text that is valid SQL: the `.env` stands at its end as a comment."""
        clash = "*/" in self.env or "/*" in self.env
        commented = "".join(f"-- {line}\n" for line in self.env.splitlines()) if clash else f"/*\n{self.env}*/\n"
        return f"{self.sql}\n-- The .env, to fill in (`outlast init --write .` makes two files of this):\n{commented}"


def prepare(settings: Settings, receiver_url: str | None) -> Setup:
    """Return the set-up for a table that `settings` name. A secret and a token they hold are kept, else made.

    Raises:
        ValueError: a name that PostgreSQL cannot have.
    """
    signing = next((s for s in settings.supabase_webhook_secrets if s.get_secret_value().startswith("whsec_")), None)
    secret = (
        signing.get_secret_value() if signing else f"whsec_{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"
    )
    token = settings.api_token or SecretStr(secrets.token_urlsafe(KEY_BYTES))
    others = [s.get_secret_value() for s in settings.supabase_webhook_secrets if s is not signing]
    made = {"supabase_webhook_secrets": ",".join([secret, *others]), "api_token": token.get_secret_value()}
    return Setup(_sql(settings, receiver_url, secret), _env(settings, made))


def removal(*, with_data: bool) -> str:
    """Return the SQL that takes Outlast out; its tables and the media columns only when asked."""
    chosen = sql.removal() if with_data else sql.removal()[:1]
    return "begin;\n" + "\n".join(file.read_text("utf-8") for file in chosen) + "commit;\n"


def write(setup: Setup, folder: Path) -> list[Path]:
    """Write `outlast.sql` and `.env` into the folder, readable for their owner alone: both hold the secret.

    Raises:
        FileExistsError: one of them is there; none is overwritten, and none is written.
    """
    targets = {folder / "outlast.sql": setup.sql, folder / ".env": setup.env}
    folder.mkdir(parents=True, exist_ok=True)
    there = [str(path) for path in targets if path.exists()]
    if there:
        raise FileExistsError(
            f"{' and '.join(there)}: there already, and not overwritten; move it, or choose another folder"
        )
    for path, text in targets.items():
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, "utf-8")
    return list(targets)


def show(setup: Setup, *, as_json: bool) -> None:
    """Print the set-up."""
    sys.stdout.write(json.dumps({"sql": setup.sql, "env": setup.env}) + "\n" if as_json else setup.document())


def _sql(settings: Settings, receiver_url: str | None, secret: str) -> str:
    values = {key: sql.identifier(getattr(settings, name)) for key, name in NAMED.items()}
    values |= {"completed_value": settings.generations_completed_value, "bucket": settings.storage_bucket}
    if receiver_url is not None:
        values["webhook_url"] = f"{receiver_url.rstrip('/')}/webhooks/supabase"
    rows = ",\n".join(f"  ({sql.literal(key)}, {sql.literal(value)})" for key, value in values.items())
    first, *rest = [file.read_text("utf-8") for file in sql.migrations()]
    table = " ".join(f"{settings.generations_schema}.{settings.generations_table}".split())
    return "".join(
        [
            HEADER.format(version=sql.newest(), table=table),
            first,
            SETTINGS.format(rows=rows),
            *rest,
            FINISH.format(secret=sql.literal(secret)),
            "" if receiver_url is not None else NO_URL,
        ]
    )


def _env(settings: Settings, made: dict[str, str]) -> str:
    """Return every setting: those to fill in and those made here first, then what is special, then the defaults."""
    lines = ["# Outlast. Fill in the first three; `outlast doctor` then checks all of it.", ""]
    for name, meaning in FILL_IN.items():
        lines += [f"# {meaning}", f"{name.upper()}="]
    for name, meaning in MADE.items():
        lines += [f"# {meaning}", f"{name.upper()}={env_value(made[name])}"]
    names = [name for name in Settings.model_fields if name not in FILL_IN and name not in MADE]
    special = [name for name in names if not is_secret(name) and getattr(settings, name) != _default(name)]
    lines += ["", "# What differs from the defaults."]
    lines += [f"{name.upper()}={env_value(default_text(getattr(settings, name)))}" for name in special]
    lines += ["", "# The defaults; the README says what they mean."]
    for name in names:
        if name not in special:
            hidden = name in COMPUTED or is_secret(name)
            lines.append(f"# {name.upper()}={'' if hidden else env_value(default_text(_default(name)))}")
    lines += ["", "# For deploy/compose.yml alone: the passwords of its RabbitMQ and its Grafana."]
    lines += [f"{name.upper()}={env_value(value)}" for name, value in Composed().model_dump().items()]
    return "\n".join(lines) + "\n"


def is_secret(name: str) -> bool:
    """Whether a setting must not be shown."""
    return "Secret" in repr(Settings.model_fields[name].annotation)


def _default(name: str) -> object:
    return Settings.model_fields[name].get_default(call_default_factory=True)


def env_value(value: str) -> str:
    """Return a value as `.env` files write it: quoted where it is more than a plain word.

    Raises:
        ValueError: it holds `${`, which every reader of such files would replace.
    """
    if "${" in value:
        raise ValueError(f"{value!r} cannot be written in a .env file: readers replace ${{...}}")
    if set(value) <= PLAIN:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
