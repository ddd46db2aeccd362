"""Run `outlast init`: make the SQL that sets up a database, and a `.env` with the same webhook secret."""

import base64
import json
import os
import secrets
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.cli import migrations
from worker.cli.bindings import Binding
from worker.cli.settings_table import COMPUTED, default_text
from worker.notices.alertmanager import alertmanager_config
from worker.settings import Settings

KEY_BYTES: Final = 32
FILL_IN: Final = {
    "supabase_url": "Project settings, API: the project's URL",
    "supabase_service_role_key": "the same page: the service_role (or sb_secret_...) key; never in a browser",
    "rabbitmq_url": "amqp://user:password@host:5672/vhost, amqps:// for TLS",
}
GENERATED: Final = {
    "supabase_webhook_secrets": "the database signs its webhooks with it; the SQL of `outlast init` stores it there",
    "api_token": "the bearer token of the HTTP API",
    "console_token": "the token of the operator's page, /console/",
}
UNQUOTED_CHARACTERS: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@,+=%*")

HEADER: Final = """\
-- Outlast {version} for {table}. Run it in the SQL editor, or with psql -v ON_ERROR_STOP=1 -f.
-- It can be applied again at any time: after an upgrade, with other names, while the application and workers run.
-- Nothing is changed if the first of its two transactions fails. `outlast init --remove` prints the SQL to remove it.
select set_config('outlast.applied', '', false);
begin;
"""
SETTINGS: Final = """
-- The bucket and the URL of the webhook; the binding {binding}: where your rows are, and the names of their columns.
insert into public.outlast_settings (key, value) values
{rows}
  on conflict (key) do update set value = excluded.value;
{binding_sql}
"""
GENERATED_NOTE: Final = """A new webhook secret was generated, because SUPABASE_WEBHOOK_SECRETS has none here.
If the database has Outlast already, run this command in the folder of your .env: the new secret would replace the one
that your receivers know.

"""
FINISH: Final = """{secret}
-- The triggers of your tables.
select public.outlast_install_binding({binding});
select public.outlast_install();
select set_config('outlast.applied', '{version}', false);
commit;

-- The policies, in a short transaction: on Supabase, `create policy` locks tables of Auth and Storage.
begin;
do $$
begin
  if current_setting('outlast.applied') <> '{version}' then
    raise exception 'the first transaction failed; correct its error, then run all of this SQL again';
  end if;
end $$;
"""
SIGN: Final = """
-- The secret with which the database signs its webhooks, in Vault where the project has it. Do not commit it.
select public.outlast_set_webhook_secret({secret});
"""
MAKE_BUCKET: Final = """
-- The private bucket.
select public.outlast_install_storage(p_make_bucket => true);

-- The policies are in an older file, which has set its own version.
update public.outlast_settings set value = '{version}' where key = 'version';
commit;
"""
NO_URL: Final = """
-- No --receiver-url was given. No webhook is sent until you set the URL:
-- update public.outlast_settings set value = 'https://outlast.example.com/webhooks/supabase' where key = 'webhook_url';
"""
SWEEP_ONLY: Final = ""
"""The `webhook_url` for `--sweep-only`: the database sends no webhooks."""

WEBHOOK_PATH: Final = "/webhooks/supabase"
NO_RECEIVER: Final = "its public URL, as given to `outlast init --receiver-url`"
NOT_TO_COMMIT: Final = """\
-- This text contains secrets: do not commit it. `outlast init --write DIR` writes them to separate files.
"""
PRINTED_FIRST: Final = "`outlast init --write DIR` writes the files that these steps name.\n\n"


class ComposePasswords(BaseSettings):
    """Passwords of RabbitMQ and Grafana in deploy/compose.yml. Those in the environment or `.env` are kept."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore")

    rabbitmq_password: str = Field(default_factory=lambda: secrets.token_hex(16))
    grafana_password: str = Field(default_factory=lambda: secrets.token_hex(16))


@dataclass(frozen=True, slots=True)
class Setup:
    """The files that a project needs: SQL for its database, `env` for receiver and workers; and what to do next.

    `sql` is complete. `public_sql` is the same without the secret, which `secret_sql` sets. `alertmanager` is the
    configuration of compose's Alertmanager, if an address for alerts was given.
    """

    sql: str
    public_sql: str
    secret_sql: str
    env: str
    next_steps: str
    alertmanager: str = ""

    def document(self) -> str:
        """Return the SQL, with the `.env` as a comment at its end: one valid SQL text."""
        clash = "*/" in self.env or "/*" in self.env
        commented = "".join(f"-- {line}\n" for line in self.env.splitlines()) if clash else f"/*\n{self.env}*/\n"
        return f"{NOT_TO_COMMIT}{self.sql}\n-- The .env, to fill in:\n{commented}"


def make_setup(
    settings: Settings,
    receiver_url: str | None,
    binding: Binding | None = None,
    *,
    sweep_only: bool = False,
    alerts_to: str | None = None,
) -> Setup:
    """Return the set-up for a binding, by default for the table that `settings` name.

    Secrets in `settings` are kept, missing ones are generated. With `sweep_only` the database sends no webhooks.

    Raises:
        ValueError: a name is not a valid PostgreSQL identifier, `alerts_to` is not an address, or a value has `${`.
    """
    signing = signing_secret(settings)
    secret = (
        signing.get_secret_value() if signing else f"whsec_{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}"
    )
    token = settings.api_token or SecretStr(secrets.token_urlsafe(KEY_BYTES))
    others = [s.get_secret_value() for s in settings.supabase_webhook_secrets if s is not signing]
    console = settings.console_token or SecretStr(secrets.token_urlsafe(KEY_BYTES))
    generated = {
        "supabase_webhook_secrets": ",".join([secret, *others]),
        "api_token": token.get_secret_value(),
        "console_token": console.get_secret_value(),
    }
    url = SWEEP_ONLY if sweep_only else None if receiver_url is None else f"{receiver_url.rstrip('/')}{WEBHOOK_PATH}"
    set_secret = SIGN.format(secret=migrations.literal(secret))
    binding = binding or Binding.from_options(settings, {})
    return Setup(
        sql=_sql(settings, url, set_secret, binding),
        public_sql=_sql(settings, url, "", binding),
        secret_sql=set_secret.lstrip(),
        env=_env(settings, generated, alerts=alerts_to is not None),
        next_steps=migrations.next_steps("none, without webhooks" if sweep_only else url or NO_RECEIVER),
        alertmanager="" if alerts_to is None else alertmanager_config(alerts_to),
    )


def signing_secret(settings: Settings) -> SecretStr | None:
    """Return the secret with which the database signs webhooks, if the settings have one."""
    return next((s for s in settings.supabase_webhook_secrets if s.get_secret_value().startswith("whsec_")), None)


def removal_sql(*, with_data: bool) -> str:
    """Return the SQL that removes Outlast; with `with_data` also its tables and the media columns."""
    files = migrations.removal() if with_data else migrations.removal()[:1]
    return "begin;\n" + "\n".join(file.read_text("utf-8") for file in files) + "commit;\n"


def write(setup: Setup, folder: Path) -> list[Path]:
    """Write the files into the folder, readable only by their owner. `outlast_secret.sql` and `.env` hold the secret.

    Raises:
        FileExistsError: one of the files exists. Then none is written.
        ValueError: the folder cannot be made or written to.
    """
    targets = {
        folder / "outlast.sql": setup.public_sql,
        folder / "outlast_secret.sql": setup.secret_sql,
        folder / ".env": setup.env,
        folder / "next_steps.md": setup.next_steps,
    }
    if setup.alertmanager:
        targets[folder / "alertmanager.yml"] = setup.alertmanager
    existing = [str(path) for path in targets if path.exists()]
    if existing:
        raise FileExistsError(
            f"{', '.join(existing)}: already there and not overwritten, so nothing was written; choose another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in targets.items():
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(text, "utf-8")
    except OSError as error:
        raise ValueError(
            f"--write {folder}: cannot be written to ({error.strerror}); name a folder of yours, for example "
            "--write outlast"
        ) from None
    return list(targets)


def show(setup: Setup, *, as_json: bool) -> None:
    """Print the set-up; the next steps to standard error, so that standard output is valid SQL."""
    if as_json:
        sys.stdout.write(json.dumps(asdict(setup)) + "\n")
        return
    sys.stdout.write(setup.document())
    sys.stderr.write(PRINTED_FIRST + setup.next_steps)


def _sql(settings: Settings, webhook_url: str | None, secret: str, binding: Binding) -> str:
    values = {"bucket": settings.storage_bucket}
    if webhook_url is not None:
        values["webhook_url"] = webhook_url
    rows = ",\n".join(f"  ({migrations.literal(key)}, {migrations.literal(value)})" for key, value in values.items())
    *files, policies = migrations.migrations()
    tables = next(number for number, file in enumerate(files) if file.name.endswith("_outlast_tables.sql"))
    texts = [file.read_text("utf-8") for file in files]
    table = " ".join(f"{binding.schema}.{binding.table}".split())
    return "".join(
        [
            HEADER.format(version=migrations.newest_version(), table=table),
            *texts[: tables + 1],
            SETTINGS.format(rows=rows, binding=binding.name, binding_sql=binding.sql()),
            *texts[tables + 1 :],
            FINISH.format(secret=secret, version=migrations.newest_version(), binding=migrations.literal(binding.name)),
            policies.read_text("utf-8"),
            MAKE_BUCKET.format(version=migrations.newest_version()),
            "" if webhook_url is not None else NO_URL,
        ]
    )


def _env(settings: Settings, generated: dict[str, str], *, alerts: bool) -> str:
    """Return the `.env`: settings to fill in, secrets, changed values, the defaults, and those of compose."""
    lines = ["# Outlast. Fill in the first three, then run `outlast doctor`.", ""]
    for name, meaning in FILL_IN.items():
        lines += [f"# {meaning}", f"{name.upper()}="]
    for name, meaning in GENERATED.items():
        lines += [f"# {meaning}", f"{name.upper()}={env_value(generated[name])}"]
    names = [name for name in Settings.model_fields if name not in FILL_IN and name not in GENERATED]
    changed = [name for name in names if not is_secret(name) and getattr(settings, name) != _default(name)]
    lines += ["", "# Values that differ from the defaults."]
    lines += [f"{name.upper()}={env_value(default_text(getattr(settings, name)))}" for name in changed]
    lines += ["", "# The defaults; deploy/docs/settings.md explains them."]
    for name in names:
        if name not in changed:
            is_empty = name in COMPUTED or is_secret(name)
            lines.append(f"# {name.upper()}={'' if is_empty else env_value(default_text(_default(name)))}")
    lines += ["", "# Only for deploy/compose.yml: the passwords of its RabbitMQ and its Grafana."]
    lines += [f"{name.upper()}={env_value(value)}" for name, value in ComposePasswords().model_dump().items()]
    lines += ["# Where deploy/README.md can be read, for the links in alerts.", "# RUNBOOK_URL="]
    if alerts:
        lines += ["# Who is told of alerts. Alertmanager runs as the user who can read the file."]
        lines += ["ALERTMANAGER_CONFIG=./alertmanager.yml", f"ALERTMANAGER_USER={os.getuid()}"]
    return "\n".join(lines) + "\n"


def is_secret(name: str) -> bool:
    """Whether a setting is a secret."""
    return "Secret" in repr(Settings.model_fields[name].annotation)


def _default(name: str) -> object:
    return Settings.model_fields[name].get_default(call_default_factory=True)


def env_value(value: str) -> str:
    """Return a value as written in a `.env` file: quoted unless it is a plain word.

    Raises:
        ValueError: it contains `${`, which programs that read `.env` files replace.
    """
    if "${" in value:
        raise ValueError(f"{value!r} cannot be written in a .env file: programs that read .env files replace ${{...}}")
    if set(value) <= UNQUOTED_CHARACTERS:
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
