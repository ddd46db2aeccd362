"""Bindings as `outlast init` names them, and the SQL that makes, changes or removes one."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, Self

from schemas.jobs import DEFAULT_BINDING
from schemas.variants import parse_variants, variants_text
from worker.cli import migrations
from worker.settings import Settings

NONE: Final = "none"
"""The value of an option that says: there is no such column."""
NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
OWNER_PATH: Final = re.compile(
    r"(?P<column>.+?)\s*->\s*(?:(?P<schema>[^.:]+)\.)?(?P<table>[^.:]+)\.(?P<key>[^.:]+?)\s*:\s*(?P<value>.+)"
)
"""`project_id -> projects.id: owner_id`, also with the schema of the table."""
SOURCE_COLUMN: Final = re.compile(r"(?P<source>[^=]+)=(?P<column>[^=]+)")
FOLDERS: Final = re.compile(r"(?:\{[^{}/]+\}|[A-Za-z0-9_-]+)(?:/(?:\{[^{}/]+\}|[A-Za-z0-9_-]+)){0,3}")
"""At most four folders: each a name, or a column in braces."""
BUCKET: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,62}")
DEFAULT_FAILED: Final = "failed"
UPSERT: Final = """\
insert into public.outlast_bindings ({columns})
  values ({values})
  on conflict (name) do update set updated_at = now(),
    {changes};
"""


@dataclass(frozen=True, slots=True)
class Owner:
    """Where a row's owner is: in `column`; or, with a table, in `value` of the row whose `key` equals `column`."""

    column: str
    schema: str | None = None
    table: str | None = None
    key: str | None = None
    value: str | None = None

    @classmethod
    def parse(cls, text: str, schema: str) -> "Owner | None":
        """Read `user_id`, `project_id -> projects.id: owner_id` or `none`. The schema defaults to the bound table's.

        Raises:
            ValueError: the text has an arrow, but not the form of the path above.
        """
        if text == NONE:
            return None
        if "->" not in text:
            return cls(text.strip())
        path = OWNER_PATH.fullmatch(text.strip())
        if path is None:
            raise ValueError(f"--owner {text!r}: write a column, 'project_id -> projects.id: owner_id', or none")
        parts = {name: value.strip() for name, value in path.groupdict().items() if value is not None}
        return cls(**({"schema": schema} | parts))


@dataclass(frozen=True, slots=True)
class Binding:
    """A row of `outlast_bindings`. An optional column is None if the table has none."""

    name: str
    schema: str
    table: str
    id_column: str
    owner: Owner | None
    status_column: str | None
    completed_values: tuple[str, ...]
    output_columns: tuple[str, ...]
    request_column: str | None
    created_column: str | None
    model_column: str | None
    error_column: str | None
    deleted_column: str | None
    media_column: str | None
    media_status_column: str | None
    write_urls: Mapping[str, str] = field(default_factory=dict)
    bucket: str | None = None
    public_bucket: bool = False
    object_path: str | None = None
    variants: str | None = None
    fal_finishes: bool = False
    failed_values: tuple[str, ...] = ()

    @classmethod
    def from_options(cls, settings: Settings, options: Mapping[str, Any]) -> Self:
        """Return the binding for the options of `outlast init`. Names that are not given come from the settings.

        Raises:
            ValueError: the name of the binding, the owner or another option is not valid.
        """
        name = options.get("binding") or DEFAULT_BINDING
        if NAME.fullmatch(name) is None:
            raise ValueError(f"--binding {name!r}: use at most 40 of a-z, 0-9, - and _")
        given = {key: value for key, value in options.items() if value}
        schema = given.get("schema", settings.generations_schema)
        default = {item.name: getattr(settings, f"generations_{item.name}", None) for item in fields(cls)}
        default |= {"media_column": "media", "media_status_column": "media_status"}
        optional = {
            column: None if (value := given.get(column, default[column])) == NONE else value
            for column in default
            if column.endswith("_column") and column != "id_column"
        }
        completed = tuple(given.get("completed_values", [settings.generations_completed_value]))
        return cls(
            name=name,
            schema=schema,
            table=given.get("table", settings.generations_table),
            id_column=given.get("id_column", settings.generations_id_column),
            owner=Owner.parse(given.get("owner", settings.generations_user_column), schema),
            completed_values=completed if optional["status_column"] is not None else (),
            output_columns=tuple(given.get("output_columns", [settings.generations_output_column])),
            write_urls=_write_urls(given.get("write_urls", [])),
            bucket=None if name == DEFAULT_BINDING else _bucket(given.get("bucket")),
            public_bucket=given.get("public_bucket", False),
            object_path=_object_path(given.get("object_path")),
            variants=_variants(given.get("variants")),
            fal_finishes=given.get("fal_finishes", False),
            failed_values=_failed_values(given, has_status=optional["status_column"] is not None),
            **optional,
        )

    def sql(self) -> str:
        """Return the statement that makes or changes this row of `outlast_bindings`.

        Raises:
            ValueError: a name is not a valid PostgreSQL identifier.
        """
        owner = self.owner
        values = {
            "name": migrations.literal(self.name),
            "schema": _identifier_literal(self.schema),
            '"table"': _identifier_literal(self.table),
            **{
                f"owner_{part}": _identifier_literal(None if owner is None else getattr(owner, part))
                for part in ("column", "schema", "table", "key", "value")
            },
            **{
                item.name: _identifier_literal(getattr(self, item.name))
                for item in fields(self)
                if item.name.endswith("_column")
            },
            "completed_values": _array([migrations.literal(value) for value in self.completed_values]),
            "output_columns": _array([_identifier_literal(column) for column in self.output_columns]),
            "write_urls": f"{migrations.literal(json.dumps(self.write_urls, ensure_ascii=False))}::jsonb",
            "bucket": _literal_or_null(self.bucket),
            "public_bucket": str(self.public_bucket).lower(),
            "object_path": _literal_or_null(self.object_path),
            "variants": _literal_or_null(self.variants),
            "fal_finishes": str(self.fal_finishes).lower(),
            "failed_values": _array([migrations.literal(value) for value in self.failed_values]),
        }
        changes = ",\n    ".join(f"{column} = excluded.{column}" for column in values if column != "name")
        return UPSERT.format(columns=", ".join(values), values=", ".join(values.values()), changes=changes)


def unbind_sql(binding: str) -> str:
    """Return the SQL that removes one binding: its triggers, its index, and the columns that Outlast added."""
    return f"begin;\nselect public.outlast_unbind({migrations.literal(binding)});\ncommit;\n"


def _write_urls(texts: Sequence[str]) -> dict[str, str]:
    """Read `image_url=stored_url`; `image_url` alone means `image_url=image_url`. Raises ValueError."""
    urls: dict[str, str] = {}
    for text in texts:
        pair = SOURCE_COLUMN.fullmatch(text if "=" in text else f"{text}={text}")
        if pair is None:
            raise ValueError(
                f"--write-url {text!r}: write 'output column=column', or 'images[0].url=column' for a field"
            )
        source, column = pair["source"].strip(), migrations.identifier(pair["column"].strip())
        if source in urls or column in urls.values():
            raise ValueError(f"--write-url {text!r}: {source if source in urls else column} is named twice")
        urls[source] = column
    return urls


def _bucket(name: str | None) -> str | None:
    if name is not None and BUCKET.fullmatch(name) is None:
        raise ValueError(f"--bucket {name!r}: use at most 63 of A-Z, a-z, 0-9, '.', '-' and '_'")
    return name


def _object_path(path: str | None) -> str | None:
    """Return the folders of the files; None for the default, the owner's folder. Raises ValueError."""
    if path is None or path == NONE:
        return None
    path = path.strip("/")
    if FOLDERS.fullmatch(path) is None:
        raise ValueError(
            f"--object-path {path!r}: write at most four folders, each a name or a column in braces, for example "
            "{org_id}/{user_id}"
        )
    return None if path == "{user_id}" else path


def _variants(text: str | None) -> str | None:
    """Return the variants in their shortest form; empty for none, None for those of the settings. Raises ValueError."""
    if text is None:
        return None
    try:
        return "" if text == NONE else variants_text(parse_variants(text))
    except ValueError as error:
        raise ValueError(f"--variants {error}") from None


def _failed_values(given: Mapping[str, Any], *, has_status: bool) -> tuple[str, ...]:
    """Return the status values of failed rows, which only FAL's webhook writes. Raises ValueError."""
    values = given.get("failed_values")
    if values is not None and not given.get("fal_finishes"):
        raise ValueError("--failed-value can only be used with --fal-finishes")
    if not given.get("fal_finishes") or not has_status or values == [NONE]:
        return ()
    return tuple(values or [DEFAULT_FAILED])


def _literal_or_null(value: str | None) -> str:
    return "null" if value is None else migrations.literal(value)


def _identifier_literal(name: str | None) -> str:
    return "null" if name is None else migrations.literal(migrations.identifier(name))


def _array(literals: list[str]) -> str:
    return f"array[{', '.join(literals)}]::text[]"
