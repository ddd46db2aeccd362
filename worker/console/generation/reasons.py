"""Why a generation has its media, or none: sentences for operators, the most important one first."""

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final, Literal

from worker.console.dead_letters.problems import REPLAY_PROBLEMS
from worker.console.templating import age

Level = Literal["good", "wait", "bad"]
ACTIVE: Final = frozenset({"queued", "running", "retrying"})
SKIPPED: Final = {
    "type_skipped": "of a type that is not stored (UNSUPPORTED_FILES=skip)",
    "source_forbidden": "on a host that is not in SOURCE_ALLOWLIST",
    "request_file": "files of the request, which the output repeats",
    "cancelled": "of a cancelled task",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One sentence about a generation, and what to do."""

    level: Level
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a webhook of the row would fetch now: number of files (None: too large), and of skipped ones by code."""

    files: int | None
    skipped: dict[str, int]


def explain(facts: dict[str, Any], tasks: list[dict[str, Any]], planned: Planned | None, every: float) -> list[Reason]:
    """Return all reasons in the order in which they are shown. `every` is RECONCILE_EVERY_SECONDS."""
    row = facts["row"]
    reasons = [*_of_binding(facts), *_of_row(facts)]
    if row is not None and row["completed"] and not row["empty"] and not row["deleted"] and not tasks:
        reasons += _of_no_task(facts, planned, every)
    return [*reasons, *_of_tasks(tasks), *_of_owner(row, tasks), *_of_media(facts), *_of_refusal(facts)]


def _of_binding(facts: dict[str, Any]) -> list[Reason]:
    if not facts["bound"]:
        names = ", ".join(facts["bindings"]) or "none"
        remedy = "Choose one of them, or bind the table: outlast init --binding ..."
        return [Reason("bad", f"There is no binding {facts['binding']}. The bindings are: {names}.", remedy)]
    if not facts["usable"]:
        problem = f"The table {facts['table']}, or a column that the binding {facts['binding']} names, does not exist."
        return [Reason("bad", problem, "`outlast doctor` names it; correct the binding with `outlast init`.")]
    return []


def _of_row(facts: dict[str, Any]) -> list[Reason]:
    row, table = facts["row"], facts["table"]
    if row is None:
        text = f"{table} has no row with this id: it was deleted, or never written."
        return [Reason("bad", text)] if facts["usable"] else []
    if row["deleted"]:
        return [Reason("bad", "The row counts as deleted, so Outlast leaves it alone.")]
    if not row["completed"] and row["status"] is not None:
        values = " or ".join(map(repr, facts["completed_values"]))
        return [
            Reason("wait", f"The row is not completed: its status is {row['status']!r}. Outlast waits for {values}.")
        ]
    if row["empty"]:
        columns = " and ".join(facts["columns"])
        remedy = "The application must write FAL's output there. Outlast fetches it then."
        return [Reason("bad", f"The row has no output: {columns} is null, so there is nothing to fetch.", remedy)]
    if not row["completed"]:
        return [Reason("wait", "The row is not completed: its status is null.")]
    return []


def _of_no_task(facts: dict[str, Any], planned: Planned | None, every: float) -> list[Reason]:
    """Say why a completed row has no task."""
    reasons = [] if planned is None else _of_plan(planned)
    if planned is not None and planned.files == 0 and not planned.skipped:
        return reasons
    if facts["row"]["past"]:
        text = "The row is older than the installation, and Outlast leaves such rows alone."
        remedy = f"`outlast adopt --binding {facts['binding']}` takes all of them; Fetch now takes this one."
        return [Reason("bad", text, remedy), *reasons]
    return [
        Reason("bad", "No webhook of this row has arrived, and no sweep has taken it yet."),
        *_of_delivery(facts, every),
        *reasons,
    ]


def _of_plan(planned: Planned) -> list[Reason]:
    if planned.files is None:
        return [Reason("wait", "The output is too large to be shown here.", "Fetch now reads it.")]
    if planned.files == 0 and not planned.skipped:
        text = "The output names no file: no object with a url, and no link to a host in SOURCE_ALLOWLIST."
        return [Reason("bad", text)]
    return [Reason("wait", f"The output names {planned.files} files to fetch."), *_skipped(planned.skipped)]


def _of_delivery(facts: dict[str, Any], every: float) -> list[Reason]:
    """Say what prevents webhooks and sweeps, and when the last sweep ran."""
    reasons = []
    if facts["webhook_url"] != "":
        apply = "Run the SQL that `outlast init` prints."
        if not facts["trigger"]:
            reasons.append(Reason("bad", f"{facts['table']} has no trigger of Outlast, or it is disabled.", apply))
        if facts["webhook_url"] is None:
            reasons.append(Reason("bad", "The database has no address for the webhook.", f"{apply} (--receiver-url)"))
        if not facts["secret"]:
            reasons.append(Reason("bad", "The database has no secret to sign the webhook with.", apply))
    if every == 0:
        return [*reasons, Reason("bad", "No sweep runs: RECONCILE_EVERY_SECONDS is 0.", "Run `outlast reconcile`.")]
    swept = f"the last one ran {age(facts['swept_at'])} ago" if facts["swept_at"] else "none has run yet"
    text = f"A worker searches for missed rows every {every:g} s; {swept}. It skips rows younger than a minute."
    return [*reasons, Reason("wait", text)]


def _of_tasks(tasks: list[dict[str, Any]]) -> list[Reason]:
    reasons, failed = [], [task for task in tasks if task["status"] in {"failed", "partial"}]
    if active := [task for task in tasks if task["status"] in ACTIVE]:
        states = ", ".join(f"{number} {status}" for status, number in Counter(t["status"] for t in active).items())
        reasons.append(Reason("wait", f"Its files are being fetched: {states} (for {age(active[-1]['created_at'])})."))
    for code, number in Counter(task["error_code"] for task in failed).most_common(5):
        error = next(task["error"] for task in failed if task["error_code"] == code) or ""
        problem = REPLAY_PROBLEMS.get(code or "", "")
        tasks_text = "A task" if number == 1 else f"{number} tasks"
        reasons.append(
            Reason(
                "bad",
                f"{tasks_text} failed with {code}: {error[:200]}",
                f"Before a retry: {problem}." if problem else "",
            )
        )
    if tasks and all(task["status"] == "cancelled" for task in tasks):
        reasons.append(Reason("bad", "All of its tasks were cancelled.", "Fetch now starts them again."))
    return reasons


def _of_owner(row: dict[str, Any] | None, tasks: list[dict[str, Any]]) -> list[Reason]:
    """Say that the tasks do not count, because the row has another owner now."""
    owner = None if row is None else row["owner"]
    others = {task["user_id"] for task in tasks} - {owner, None}
    if owner is None or not others or owner in {task["user_id"] for task in tasks}:
        return []
    text = (
        f"Its tasks are of another user ({', '.join(sorted(others))[:200]}), so their files are not those of this row."
    )
    return [Reason("bad", text, "Fetch now stores them for the owner of the row.")]


def _of_media(facts: dict[str, Any]) -> list[Reason]:
    outcomes = Counter(entry["status"] for entry in facts["media"])
    reasons = _skipped(Counter(entry["code"] for entry in facts["media"] if entry["status"] == "skipped"))
    wanted = outcomes.total() - outcomes["skipped"]
    if wanted and outcomes["stored"] == wanted:
        text = f"All {wanted} files are stored." if wanted > 1 else "Its file is stored."
        return [Reason("good", text), *reasons]
    if outcomes["stored"]:
        return [Reason("wait", f"{outcomes['stored']} of {wanted} files are stored."), *reasons]
    return reasons


def _skipped(codes: dict[str, int]) -> list[Reason]:
    return [
        Reason("wait", f"{number} {'file is' if number == 1 else 'files are'} skipped, {SKIPPED.get(code, code)}.")
        for code, number in codes.items()
    ]


def _of_refusal(facts: dict[str, Any]) -> list[Reason]:
    rejected = facts["rejected"]
    if rejected is not None:
        text = f"The row refused its media (SQLSTATE {rejected['sqlstate']}): {rejected['message'][:300]}"
        remedy = "Correct the trigger or constraint of your table. The sweep writes the row again."
        return [Reason("bad", text, remedy)]
    if facts["bound"] and facts["media_column"] is None:
        return [Reason("wait", "The binding names no column for media: the files are recorded in outlast_files only.")]
    return []
