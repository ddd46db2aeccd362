"""Checks of the application's policies: what end users may write to the table of generations."""

import re
from collections.abc import Iterable
from typing import Final

import httpx
from pydantic import ValidationError

from schemas.base import Frozen
from schemas.jobs import DEFAULT_BINDING
from worker.doctor.context import CheckContext
from worker.doctor.database import APPLY_REMEDY, REINSTALL_REMEDY
from worker.doctor.project import error_message, parse_body
from worker.doctor.result import CheckFailure, CheckWarning

PAGE: Final = "see deploy/docs/security.md"
EVERYONE: Final = "public"


class Writable(Frozen):
    """Columns (`user`, `request`, `status`, `output`) that a role may write with `command`: INSERT or UPDATE."""

    role: str
    command: str
    columns: tuple[str, ...]


class Policy(Frozen):
    """A policy for INSERT, UPDATE or ALL. `using` is its condition for the existing row, `check` for the new row."""

    name: str
    command: str
    permissive: bool
    roles: tuple[str, ...]
    using: str | None
    check: str | None

    def applies(self, writable: Writable) -> bool:
        """Whether the policy applies to this role and command."""
        return self.command in {"ALL", writable.command} and not {EVERYONE, writable.role}.isdisjoint(self.roles)

    def limits_to_owner(self, writable: Writable, owner: str) -> bool:
        """Whether its conditions contain the owner's column: for existing rows, and new ones if the role may set it."""
        existing = writable.command == "INSERT" or _contains_name(self.using, owner)
        return existing and ("user" not in writable.columns or _contains_name(self.check, owner))


class Policies(Frozen):
    """The answer of `outlast_policies`. `readable`: the roles of end users that may read the table."""

    table: str
    media_kept: bool
    row_security: bool
    readable: tuple[str, ...]
    writable: tuple[Writable, ...]
    policies: tuple[Policy, ...]


async def row_security(context: CheckContext) -> str:
    """Row-level security must be on if end users have privileges. The answer is kept for the next checks."""
    facts = await _policies(context)
    roles = sorted({entry.role for entry in facts.writable})
    remedy = f"alter table {facts.table} enable row level security; then create policies: {PAGE}"
    if not facts.row_security and roles:
        raise CheckFailure(f"row-level security is off on {facts.table}, and {_join(roles)} may write it", remedy)
    if not facts.row_security and facts.readable:
        raise CheckWarning(
            f"row-level security is off on {facts.table}, and {_join(facts.readable)} may read it", remedy
        )
    return f"protects {facts.table}" if facts.row_security else f"end users have no privileges on {facts.table}"


async def owner_policies(context: CheckContext) -> str:
    """A policy that lets users write rows must compare the owner's column, also in the row that is written."""
    facts, owner = await _policies(context), context.settings.generations_user_column
    generations = context.health["generations"]
    if "user" in generations["absent"] or generations["columns"]["user"] is None:
        return "the table has no owner column"
    open_policies = sorted({policy.name for entry in facts.writable for policy in _open_policies(facts, entry, owner)})
    if open_policies:
        raise CheckWarning(
            f"users can write rows of another user, because these policies do not name {owner}: {_join(open_policies)}",
            f"add `using ({owner} = (select auth.uid())) with check (...)` with the same condition; {PAGE}",
        )
    return f"every policy for writing names {owner}"


async def protected_columns(context: CheckContext) -> str:
    """End users should not write the columns from which Outlast decides what to store, and for whom."""
    facts = await _policies(context)
    columns = context.health["generations"]["columns"]
    exposed = {
        columns[name]
        for entry in facts.writable
        if any(policy.permissive and policy.applies(entry) for policy in facts.policies)
        for name in entry.columns
        if name != "user"
    }
    if exposed:
        roles = _join(sorted({entry.role for entry in facts.writable}))
        raise CheckWarning(
            f"end users may write {_join(sorted(exposed))}, and so decide which files are stored",
            f"revoke insert, update on {facts.table} from {roles}; then grant both for the other columns only: {PAGE}",
        )
    return "end users cannot write request id, status and output"


async def media_trigger(context: CheckContext) -> str:
    """The trigger must exist that keeps end users from writing `media` and `media_status`."""
    if not (await _policies(context)).media_kept:
        raise CheckWarning("end users can write media and media_status of rows that they may update", REINSTALL_REMEDY)
    return "only Outlast and trusted roles write media and media_status"


async def _policies(context: CheckContext) -> Policies:
    """Return the answer of `outlast_policies`, which is kept after the first call."""
    if context.policies is None:
        binding = context.health.get("binding") or DEFAULT_BINDING
        try:
            response = await context.supabase_http.post("/rest/v1/rpc/outlast_policies", json={"p_binding": binding})
        except httpx.HTTPError as error:
            raise CheckFailure(f"the REST API does not answer: {type(error).__name__}", "run doctor again") from error
        if response.is_error:
            problem = f"outlast_policies answers {response.status_code}: {error_message(response)}"
            raise CheckFailure(problem, APPLY_REMEDY)
        context.policies = parse_body(response)
    try:
        return Policies.model_validate(context.policies)
    except ValidationError as error:
        raise CheckFailure("the answer of outlast_policies is not of this version", APPLY_REMEDY) from error


def _open_policies(facts: Policies, entry: Writable, owner: str) -> list[Policy]:
    """Return the permissive policies that accept rows of any owner, unless a restrictive one limits these."""
    applying = [policy for policy in facts.policies if policy.applies(entry)]
    if any(not policy.permissive and policy.limits_to_owner(entry, owner) for policy in applying):
        return []
    return [policy for policy in applying if policy.permissive and not policy.limits_to_owner(entry, owner)]


def _contains_name(condition: str | None, column: str) -> bool:
    """Whether an SQL expression contains the name of a column."""
    quoted = re.escape(column.replace('"', '""'))
    return re.search(rf'(?<![\w"]){re.escape(column)}(?![\w"])|"{quoted}"', condition or "") is not None


def _join(names: Iterable[str]) -> str:
    return ", ".join(names)
