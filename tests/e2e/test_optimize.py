"""`outlast optimize` as a separate process, on files stored by the whole stack."""

import asyncio
import hashlib
import json
import os
import pty
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from tests.preloaded import Command
from tests.time_limits import LONG_WAIT_SECONDS


def environment(stack):
    """Return the settings of a command that uses the stack's Supabase."""
    return {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}} | {
        "SUPABASE_URL": stack.endpoints.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.endpoints.service_role_key,
        "SOURCE_ALLOWLIST": stack.source.url,
        "CODEC_PROCESSES": "1",
    }


async def outlast(stack, *arguments, **more):
    """Run a command with the stack's Supabase; return its exit code, standard output and standard error."""
    process = await Command.start(*arguments, env=environment(stack) | more)
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def user_files(stack, project):
    """A new user whose files only this test stores."""
    sql = await asyncpg.connect(stack.endpoints.database_url)
    yield OneUsersFiles(stack, project, sql)
    await sql.close()


class OneUsersFiles:
    def __init__(self, stack, project, sql):
        self.stack, self.project, self.sql = stack, project, sql
        self.user, self.since = str(uuid4()), datetime.now(UTC).isoformat()
        self.folder = stack.data_dir / "storage" / "generations" / self.user

    async def store(self, *names, **settings):
        """Store files for a generation with a row; return its id."""
        row = {"id": str(uuid4()), "user_id": self.user, "status": "processing"}
        await self.project.insert("generations", row)
        urls = [f"{self.stack.source.url}/files/{name}" for name in names]
        code, _, err = await outlast(
            self.stack, "process", *urls, "--user", self.user, "--generation", row["id"], **settings
        )
        assert code == 0, err
        return row["id"]

    async def optimize(self, *arguments):
        code, out, err = await outlast(self.stack, "optimize", "--since", self.since, "--json", *arguments)
        return code, json.loads(out) if out else err

    async def media(self, generation):
        (row,) = await self.project.select("generations", f"id=eq.{generation}&select=media")
        return row["media"]

    def objects(self):
        return {f"{self.user}/{path.relative_to(self.folder)}" for path in self.folder.rglob("*.*")}

    async def age(self):
        old = "update outlast_objects set updated_at = updated_at - interval '2 days' where starts_with(path, $1)"
        await self.sql.execute(old, self.user)


async def test_optimize_shrinks_images_and_updates_every_row(user_files):
    one, two = await user_files.store("photo.png", "tone.wav"), await user_files.store("photo.png", "photo.jpg")
    before = user_files.objects()
    wanted = ("--profile", "webp-q40-strip")
    code, summary = await user_files.optimize(*wanted, "--dry-run")
    assert (code, summary["found"], summary["smaller"], summary["dry_run"]) == (0, 2, 0, True)
    code, err = await user_files.optimize(*wanted)
    assert (code, "--yes" in err, user_files.objects()) == (2, True, before)

    code, summary = await user_files.optimize(*wanted, "--yes")
    assert (code, summary["smaller"], summary["merged"], summary["failed"]) == (0, 2, 0, 0), summary
    assert summary["bytes_saved"] > 0
    entries = await user_files.media(one) + await user_files.media(two)
    assert sorted(entry["content_type"] for entry in entries) == ["audio/wav", *["image/webp"] * 3]
    assert len({entry["path"] for entry in entries}) == 3
    for entry in entries:
        content = await user_files.project.download("generations", entry["path"])
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["file_size"])
    assert before < user_files.objects(), "the old ones are kept, because links to them may be in use"

    code, summary = await user_files.optimize(*wanted, "--yes")
    assert (code, summary["found"]) == (0, 0)
    await user_files.age()
    code, summary = await user_files.optimize(*wanted, "--yes")
    assert (code, summary["orphans"], summary["orphans_removed"]) == (0, 2, 2)
    assert user_files.objects() == {entry["path"] for row in (one, two) for entry in await user_files.media(row)}


async def test_optimize_merges_duplicates(user_files):
    original = await user_files.store("photo.png", IMAGE_FORMAT="keep")
    webp = await user_files.store("photo.png", IMAGE_FORMAT="webp")
    small = await user_files.store("photo.png")
    assert len(user_files.objects()) == 3
    code, summary = await user_files.optimize("--yes")
    assert (code, summary["merged"], summary["duplicates"], summary["failed"]) == (0, 2, 2, 0), summary
    paths = {(await user_files.media(row))[0]["path"] for row in (original, webp, small)}
    await user_files.age()
    assert (await user_files.optimize("--yes"))[1]["orphans_removed"] == 2
    assert user_files.objects() == paths
    assert len(paths) == 1


async def test_optimize_merges_two_versions_of_one_source(user_files):
    rows = [
        await user_files.store("photo.png", IMAGE_FORMAT="keep"),
        await user_files.store("photo.png", IMAGE_QUALITY="95"),
    ]
    code, summary = await user_files.optimize("--yes", "--profile", "webp-q30-strip")
    assert (code, summary["smaller"], summary["merged"]) == (0, 2, 1), summary
    first, second = [(await user_files.media(row))[0] for row in rows]
    assert first["path"] == second["path"]


async def test_image_that_does_not_shrink_is_kept_and_skipped_next_time(user_files):
    row = await user_files.store("photo.jpg", IMAGE_FORMAT="webp", IMAGE_QUALITY="30")
    (before,) = await user_files.media(row)
    code, summary = await user_files.optimize("--yes")
    assert (code, summary["kept"], summary["smaller"]) == (0, 1, 0)
    (after,) = await user_files.media(row)
    assert len(after.pop("thumbhash")) == len(before.pop("thumbhash")) == 32  # computed again from the stored file
    assert after == before
    assert (await user_files.optimize("--yes"))[1]["found"] == 0


async def test_damaged_object_is_kept_and_the_others_are_optimized(user_files):
    """Also those of another user with the same content."""
    await user_files.store("photo.jpg", "photo.png")
    await OneUsersFiles(user_files.stack, user_files.project, user_files.sql).store("photo.jpg", "photo.png")
    broken = user_files.folder / min(user_files.objects()).removeprefix(f"{user_files.user}/")
    content = broken.read_bytes()
    broken.write_bytes(b"broken")
    wanted = ("--yes", "--profile", "webp-q40-strip")
    code, summary = await user_files.optimize(*wanted)
    assert (code, summary["smaller"], summary["reasons"]) == (3, 3, {"corrupted": 1})
    assert (await user_files.optimize(*wanted))[0] == 1
    broken.write_bytes(content)
    code, summary = await user_files.optimize(*wanted)
    assert (code, summary["smaller"], summary["failed"]) == (0, 1, 0)


@pytest.mark.parametrize(("option", "value"), [("--profile", "best"), ("--since", "soon")])
async def test_invalid_optimize_option_is_a_usage_error(stack, option, value):
    code, _, err = await outlast(stack, "optimize", option, value)
    assert code == 2
    assert value in err


async def test_variants_are_stored_and_a_changed_list_is_made_good(user_files):
    """The second list keeps one variant, changes one and adds two. The GIF's last one is animated."""
    first = {"VARIANTS": "thumb:64,preview:200:webp"}
    rows = [
        await user_files.store("photo.png", "tone.wav", **first),
        await user_files.store("photo.png", "animation.gif", "clip.mp4", **first),
    ]
    entries = [entry for row in rows for entry in await user_files.media(row)]
    assert [len(entry.get("variants", [])) for entry in entries] == [2, 0, 2, 2, 2]
    assert await files_of(user_files, entries) == user_files.objects()
    assert entries[0]["variants"] == entries[2]["variants"], "the second one is deduplicated"
    assert [max(each["width"], each["height"]) for each in entries[0]["variants"]] == [64, 200]

    second = {"VARIANTS": "thumb:64,preview:100:webp,wide:80x20:animated,audio:waveform"}
    code, out, err = await outlast(
        user_files.stack, "optimize", "--variants", "--since", user_files.since, "--json", "--yes", **second
    )
    assert (code, json.loads(out)) == (0, {"found": 4, "varied": 4, "failed": 0, "reasons": {}, "dry_run": False}), err
    after = [entry for row in rows for entry in await user_files.media(row)]
    assert [[each["name"] for each in entry.get("variants", [])] for entry in after] == [
        ["thumb", "preview", "wide"],
        ["audio"],
        ["thumb", "preview", "wide"],
        ["thumb", "preview", "wide"],
        ["thumb", "preview", "wide"],
    ]
    assert after[4]["thumbhash"] == entries[4]["thumbhash"]
    assert [(each["width"], each["height"]) for each in after[4]["variants"]] == [(64, 36), (100, 57), (80, 20)]
    assert [entry["path"] for entry in after] == [entry["path"] for entry in entries]
    assert [(each["width"], each["height"], each["frames"] > 1) for each in after[3]["variants"]] == [
        (64, 64, False),
        (100, 100, False),
        (80, 20, True),
    ]
    wanted = await files_of(user_files, after)
    assert wanted < user_files.objects()
    await user_files.age()
    assert (await user_files.optimize("--yes"))[0] == 0
    assert user_files.objects() == wanted

    code, summary = await user_files.optimize("--yes", "--profile", "webp-q40-strip")
    assert (code, summary["smaller"]) == (0, 2), summary
    moved = [entry for row in rows for entry in await user_files.media(row)]
    assert [entry.get("variants") for entry in moved] == [entry.get("variants") for entry in after]
    for row in rows:
        await user_files.sql.execute("delete from public.generations where id = $1::uuid", row)
    await user_files.optimize("--yes")
    await user_files.age()
    await user_files.optimize("--yes")
    assert user_files.objects() == set()


@pytest.mark.parametrize("arguments", [("--profile", "webp-q40-strip"), ("--variants",)])
async def test_a_declined_optimize_prints_that_nothing_was_done(user_files, arguments):
    await user_files.store("photo.png")
    before = user_files.objects()
    terminal, command_end = pty.openpty()
    os.write(terminal, b"n\n")
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("outlast"), "optimize", "--since", user_files.since, "--json", *arguments),
        env=environment(user_files.stack) | {"VARIANTS": "thumb:64"},
        stdin=command_end,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), LONG_WAIT_SECONDS)
    os.close(terminal)
    os.close(command_end)
    assert process.returncode == 3, err
    assert b"Continue?" in err
    result = json.loads(out)
    assert (result["found"], result["failed"], result["dry_run"]) == (1, 0, False)
    assert user_files.objects() == before


async def files_of(user_files, entries):
    """Return the paths of the files and their variants, whose hashes and sizes are compared with Storage."""
    paths = set()
    for entry in entries:
        for each in [entry, *entry.get("variants", [])]:
            content = await user_files.project.download("generations", each["path"])
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (each["sha256"], each["file_size"])
            paths.add(each["path"])
    return paths
